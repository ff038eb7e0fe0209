"""Draw docs/before-after.png from two real runs: the news service as it was, and repaired.

    python tooling/picture.py [FILE.png]

Each run is `verify`; the drawing is the report's and the notebook's.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "notebooks")]

import lab
from hangdebug.repair.proof.verify import Verification, verify
from hangdebug.report.svg import latency

DEADLINE, ABORTS = 1.0, 10


def run(app_dir: Path, aborts: int) -> Verification:
    with lab.newsroom(app_dir) as news:
        return verify(news.health_url, stream_url=news.stream_url, aborts=aborts, deadline=DEADLINE)


def main() -> int:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "before-after.png"
    before = run(lab.NEWSROOM, 1)
    with tempfile.TemporaryDirectory() as folder:
        copy = lab.copy_app(folder)
        lab.overlay(copy)
        after = run(copy, ABORTS)
    if before.passed or not after.passed:
        print("picture: the service did not hang before, or hung after; nothing was drawn.", file=sys.stderr)
        return 1
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(latency({"as it was": before, "repaired": after}).data)
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
