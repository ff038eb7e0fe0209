"""Run notebooks/triage.ipynb and keep its outputs, after a change: `python tests/refresh_notebook.py`.

Widgets are kept as the text that stands for them: a page on a code host, or a kernel that has not run yet,
could only say that the widget's model is gone.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "triage.ipynb"
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Run every cell in place, with `folder` as the kernel's. Raises CellExecutionError."""
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", store_widget_state=False,
                            record_timing=False, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return notebook


def main() -> None:
    notebook = execute(nbformat.read(NOTEBOOK, as_version=4), NOTEBOOK.parent)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    notebook.metadata.language_info = {"name": "python"}  # without the version that happened to run it
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
