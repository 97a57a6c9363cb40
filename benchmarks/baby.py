"""BM3 on Baby with the published settings: python benchmarks/baby.py FOLDER [--seeds N] [--quick]"""

import sys

from reproduce import main

if __name__ == "__main__":
    sys.exit(main("baby"))
