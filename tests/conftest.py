"""Put the engine and the lab on the import path, as scripts/hang.py and the notebook do."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for folder in ("scripts", "notebooks"):
    sys.path.insert(0, str(ROOT / folder))
