"""Run a notebook and keep its outputs, after a change: `python tests/refresh_notebook.py [clean_shutdown]`.

It runs where a user has it, in an unpacked package: this repository's settings, such as the width of its lines, are not
there.

Widgets are kept as the text that stands for them: a page on a code host, or a kernel that has not run yet,
could only say that the widget's model is gone.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # three seconds of imports, which the tests that start no server do without
    from nbclient import NotebookClient
    from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOK, SHUTDOWN = FOLDER / "triage.ipynb", FOLDER / "clean_shutdown.ipynb"
PACKAGE = ("scripts", "snippets", "references", "notebooks")
WIDGET = "application/vnd.jupyter.widget-view+json"


def opened(file: Path) -> NotebookNode:
    import nbformat

    return nbformat.read(file, as_version=4)


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run every cell in place, with `folder` as the kernel's. Raises CellExecutionError."""
    client_for(notebook, folder).execute()
    return notebook


def client_for(notebook: NotebookNode, folder: Path) -> NotebookClient:
    from nbclient import NotebookClient

    return NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )


def main() -> None:
    import nbformat

    file = FOLDER / f"{sys.argv[1]}.ipynb" if sys.argv[1:] else NOTEBOOK
    with tempfile.TemporaryDirectory(prefix="package-") as name:
        for part in PACKAGE:
            shutil.copytree(FOLDER.parent / part, Path(name) / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        notebook = execute(opened(file), Path(name) / "notebooks")
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    notebook.metadata.language_info = {"name": "python"}  # without the version that happened to run it
    nbformat.write(notebook, file)


if __name__ == "__main__":
    main()
