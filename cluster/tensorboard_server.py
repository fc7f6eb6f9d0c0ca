"""What runs in TensorBoard's own process: serve a folder until the process that started it is gone."""

from __future__ import annotations

import json
import os
import sys
from typing import Any
from urllib.parse import urlsplit


def main(order: dict[str, Any]) -> int:
    """Serve `order["logdir"]` at `order["host"]` and `order["port"]`, and say so in one JSON line.

    The line is `{"port": 6006}`, or `{"taken": true}` where the port is not free, or `{"error": "…"}`, or
    `{"address": false}` where it cannot listen there, of which standard error has the reason. Standard input is held
    open by the process that started this one: when it ends, so does this.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else may write there
    answer = _serve(order)
    answers.write(json.dumps(answer) + "\n")
    answers.close()
    if "port" not in answer:
        return 1
    while os.read(0, 1 << 16):
        pass
    return 0


def _serve(order: dict[str, Any]) -> dict[str, Any]:
    if not order["tensorflow"]:
        _without_tensorflow()
    try:
        from tensorboard import program

        board = program.TensorBoard()
        words = {
            "logdir": order["logdir"],
            "host": order["host"],
            "port": order["port"],
            "window_title": order["title"],
        }
        board.configure(argv=["tensorboard", *(f"--{name}={value}" for name, value in words.items())])
        return {"port": urlsplit(board.launch()).port}
    except ImportError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    except program.TensorBoardPortInUseError:
        return {"taken": True}
    except program.TensorBoardServerException as error:
        return {"error": str(error).strip().splitlines()[0]}
    except SystemExit:  # Werkzeug has printed why
        return {"address": False}


def _without_tensorflow() -> None:
    """Have TensorBoard and xprof do without TensorFlow, as where it is not installed.

    Importing it costs 8 s and 450 MB, and only Debugger V2 needs it.
    """
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # an import of it is then an ImportError


if __name__ == "__main__":
    os._exit(main(json.loads(sys.argv[1])))
