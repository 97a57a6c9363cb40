"""BM3 on Sports with the published settings: python benchmarks/sports.py FOLDER [--seeds N] [--quick]"""

import sys

from reproduce import main

if __name__ == "__main__":
    sys.exit(main("sports"))
