"""What sources that are asked have to tell, and landed files, to bronze."""

import sys

from utilityflow.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", "--select", "extract", "bronze", *sys.argv[1:]]))
