"""Silver to the dimensions and facts of gold."""

import sys

from utilityflow.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", "--select", "gold", *sys.argv[1:]]))
