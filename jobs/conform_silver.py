"""Bronze records to judged silver rows and quarantine."""

import sys

from utilityflow.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", "--select", "silver", *sys.argv[1:]]))
