"""Hang a cell of an IPython shell, interrupt it, and print what the shell prints."""
import os, signal, sys, threading
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors=sys.argv[1] if sys.argv[1:] else "NoColor")
timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
timer.start()
shell.run_cell("import report\nreport.build(['north', 'south'])")
