"""Make the helpers beside the tests importable: the reference model and the world that plays histories."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
