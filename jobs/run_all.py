"""The whole walk: landed files to bronze, silver, gold, and the published warehouse."""

import sys

from utilityflow.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
