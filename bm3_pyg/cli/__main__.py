import sys

from bm3_pyg.cli import main

sys.exit(main())
