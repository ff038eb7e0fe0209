"""Is a program CPython's own `python` and nothing else? Only then it may be started, to measure a like of the target.

A frozen application, a server that embeds Python, a launcher with arguments of its own: started again, each of them
would do its work a second time. So the proof is in the machine code. The `main` of CPython's own program is one jump to
Py_BytesMain, with the arguments that it was given; nothing else may be appended to the file. What cannot be proved, as
on other processors than x86-64, is not started.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from hangdebug.capture.interpreter.elf import X86_64, Image, code_at, read_image

MAINS = ("Py_BytesMain", "Py_Main")
FIRST_CODE, MOST_CODE = 64, 24
LOAD_MAIN = (b"\x48\x8d\x3d", b"\x48\xc7\xc7")  # lea main(%rip), %rdi; mov $main, %rdi
MARK = b"\xf3\x0f\x1e\xfa"  # endbr64, at places to which code may jump
NEAR, SHORT, INDIRECT, GUARDED = b"\xe9", b"\xeb", b"\xff\x25", b"\xf2\xff\x25"
CALL, AFTER_CALL = b"\x48\x83\xec\x08\xe8", b"\x48\x83\xc4\x08\xc3"  # the same as a jump, from an older compiler
MOST_APPENDED = 256  # bytes of padding


def is_plain_interpreter(path: str) -> bool:
    """Whether the program at `path` is proved to be CPython's own."""
    image = read_image(path, MAINS)
    try:
        if image is None or image.machine != X86_64 or os.stat(path).st_size - image.end > MOST_APPENDED:
            return False
        return any(leads_to_python(path, image, start) for start in mains(path, image))
    except (OSError, struct.error):
        return False


def mains(path: str, image: Image) -> Iterator[int]:
    """Where `main` is: the first code of a program hands it to the C library."""
    code = code_at(path, image, image.entry, FIRST_CODE)
    for load in LOAD_MAIN:
        at = code.find(load)
        if at >= 0:
            (number,) = struct.unpack_from("<i", code, at + 3)
            yield image.entry + at + 7 + number if load == LOAD_MAIN[0] else number


def leads_to_python(path: str, image: Image, at: int) -> bool:
    """Whether the code at `at` does nothing but call one of Python's own mains with the arguments that it has."""
    found = jump_from(path, image, at)
    if found is None:
        return False
    target, indirect = found
    if indirect:
        return target in image.imported.values()
    if target in image.defined.values():
        return True
    further = jump_from(path, image, target)  # by way of the table of imports
    return further is not None and further[1] and further[0] in image.imported.values()


def jump_from(path: str, image: Image, at: int) -> tuple[int, bool] | None:
    """Where a jump at `at` leads, and whether what stands there is only the address; None for any other code."""
    code = code_at(path, image, at, MOST_CODE)
    start = at
    if code.startswith(MARK):
        code, start = code[len(MARK) :], at + len(MARK)
    for opcode, form, indirect in ((NEAR, "<i", 0), (SHORT, "<b", 0), (INDIRECT, "<i", 1), (GUARDED, "<i", 1)):
        if code.startswith(opcode):
            (number,) = struct.unpack_from(form, code, len(opcode))
            return start + len(opcode) + struct.calcsize(form) + number, bool(indirect)
    if code.startswith(CALL) and code[len(CALL) + 4 :].startswith(AFTER_CALL):
        (number,) = struct.unpack_from("<i", code, len(CALL))
        return start + len(CALL) + 4 + number, False
    return None
