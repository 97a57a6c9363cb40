"""BM3 on TikTok beside the authors' code: python benchmarks/tiktok.py FOLDER [--seeds N] [--quick]"""

import sys

from reproduce import main

if __name__ == "__main__":
    sys.exit(main("tiktok"))
