"""BM3 on Electronics with the published settings: python benchmarks/electronics.py FOLDER [--seeds N] [--quick]"""

import sys

from reproduce import main

if __name__ == "__main__":
    sys.exit(main("electronics"))
