"""Landed files to bronze."""

import sys

from utilityflow.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", "--select", "bronze", *sys.argv[1:]]))
