"""A script that does nothing, and goes on until a file is there."""

import sys
import threading
from pathlib import Path

pause = threading.Event()
while not Path(sys.argv[1], "last").exists():
    pause.wait(0.05)
