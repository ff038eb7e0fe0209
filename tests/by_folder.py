"""One test for each folder of files instead of one for each file: thousands of them cost more than what they check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest


def by_folder(files: Iterable[Path]) -> Callable[[Callable[[Path], None]], Callable[[str], None]]:
    """Run a test that takes a file for all files of a folder; those that fail are named, each with its reason."""
    folders: dict[str, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent.name, []).append(file)

    def of_folders(test: Callable[[Path], None]) -> Callable[[str], None]:
        def run(folder: str) -> None:
            failed = []
            for file in folders[folder]:
                try:
                    test(file)
                except AssertionError as error:
                    failed.append(f"{file.name}: {error}")
            assert not failed, "\n".join(failed)

        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        return pytest.mark.parametrize("folder", sorted(folders))(run)

    return of_folders
