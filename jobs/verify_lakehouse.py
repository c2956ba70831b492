"""Check the invariants on the live lakehouse; exit status 5 when one does not hold."""

import sys

from utilityflow.cli import main

if __name__ == "__main__":
    sys.exit(main(["verify", *sys.argv[1:]]))
