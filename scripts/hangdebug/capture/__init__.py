"""Evidence from live processes. The only part of the engine that needs more than the standard library."""

from __future__ import annotations

from hangdebug.capture.bundle import capture, pack
from hangdebug.capture.processes import Target, on_port, resolve

__all__ = ["Target", "capture", "on_port", "pack", "resolve"]
