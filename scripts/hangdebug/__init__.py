"""Name what hangs a Python web backend, with the evidence, and prove the repair."""

__version__ = "0.2.0"
