"""The gold tables as they stand to the warehouse."""

import sys

from utilityflow.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", "--select", "publish", *sys.argv[1:]]))
