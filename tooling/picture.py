"""Draw docs/before-after.png from two real runs: the news service as it was, and repaired.

    python tooling/picture.py [FILE.png]

Each run is `verify`: probes alone, beside an open stream, and after ten streams were cut off.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "notebooks")]

import lab  # noqa: E402
import matplotlib  # noqa: E402
from hangdebug.verify import PHASES, Verification, verify  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

DEADLINE, ABORTS = 1.0, 10
COLOURS = dict(zip(PHASES, ("#4c72b0", "#8172b3", "#55a868")))
LOST = "#c44e52"


def run(app_dir: Path) -> Verification:
    with lab.newsroom(app_dir) as news:
        return verify(news.health_url, stream_url=news.stream_url, aborts=ABORTS, deadline=DEADLINE)


def draw(before: Verification, after: Verification, file: Path) -> None:
    figure, panes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True, layout="constrained")
    for pane, result, title in zip(panes, (before, after), ("as it was", "repaired")):
        for phase in PHASES:
            good = [probe for probe in result.probes if probe.phase == phase and probe.ok]
            pane.scatter([p.at for p in good], [1000 * p.seconds for p in good], color=COLOURS[phase], label=phase, s=28)
        bad = result.failed
        pane.scatter([p.at for p in bad], [1000 * DEADLINE] * len(bad), color=LOST, marker="x", s=60,
                     label="no answer by the deadline")
        pane.axhline(1000 * DEADLINE, color="grey", linewidth=0.8, linestyle=":")
        answered = f"{len(result.probes) - len(bad)} of {len(result.probes)} health checks answered"
        pane.set(title=f"{title}: {answered}", xlabel="seconds since the first probe", yscale="log")
    panes[0].set_ylabel("/health took, ms")
    panes[0].legend(fontsize=8, loc="center right")
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=110, metadata={"Software": None})


def main() -> int:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "before-after.png"
    before = run(lab.NEWSROOM)
    with tempfile.TemporaryDirectory() as folder:
        copy = lab.copy_app(folder)
        lab.overlay(copy)
        after = run(copy)
    if before.passed or not after.passed:
        print("picture: the service did not hang before, or hung after; nothing was drawn.", file=sys.stderr)
        return 1
    draw(before, after, file)
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
