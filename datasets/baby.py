"""``bm3 data prepare baby`` with the options given here (see --help); README.md beside this file is the card."""

import sys

from bm3_pyg.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "baby", *sys.argv[1:]]))
