"""Name what hangs a Python web backend, with the evidence, and prove the repair."""

import os

__version__ = "0.2.0"


def shipped(folder: str) -> str:
    """The place of `snippets` or `notebooks`: beside scripts/ in the skill, inside of an installed package."""
    here = os.path.dirname(os.path.abspath(__file__))
    inside = os.path.join(here, folder)
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(os.path.dirname(here)), folder)
