"""Python imports this at start-up of every server that lab.py starts, and of the workers it spawns.

It lets any process of the same user attach (Ubuntu's yama allows only ancestors otherwise), and has the
kernel end the server when the process that started it dies, so that nothing is left running.
"""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
PR_SET_PTRACER, PR_SET_PTRACER_ANY = 0x59616D61, ctypes.c_ulong(-1)

try:
    prctl = ctypes.CDLL(None).prctl
except (AttributeError, OSError, TypeError):  # not Linux: nothing to opt in to
    pass
else:
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1 and os.environ.get("LAB_PARENT") != "1":  # it died before the line above
        os._exit(1)
