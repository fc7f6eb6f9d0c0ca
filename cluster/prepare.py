"""`python -m cluster.prepare path.py:function`: run a job's `prepare` function in the current folder."""

from __future__ import annotations

import os
import sys

from cluster.entrypoint import load_function
from cluster.errors import TfClusterError

if __name__ == "__main__":
    try:
        load_function(sys.argv[1], os.getcwd())()
    except TfClusterError as error:
        sys.exit(str(error))
