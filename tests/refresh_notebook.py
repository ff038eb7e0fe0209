"""Run a notebook and keep its outputs, after a change: `python tests/refresh_notebook.py [clean_shutdown]`.

Widgets are kept as the text that stands for them: a page on a code host, or a kernel that has not run yet,
could only say that the widget's model is gone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # three seconds of imports, which the tests that start no server do without
    from nbclient import NotebookClient
    from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOK, SHUTDOWN = FOLDER / "triage.ipynb", FOLDER / "clean_shutdown.ipynb"
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
    notebook = execute(opened(file), FOLDER)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    notebook.metadata.language_info = {"name": "python"}  # without the version that happened to run it
    nbformat.write(notebook, file)


if __name__ == "__main__":
    main()
