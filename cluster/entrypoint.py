"""Load the user's function named by `path.py:function` or `package.module:function`, or run their script."""

from __future__ import annotations

import importlib
import importlib.util
import runpy
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.errors import SpecError


def load_function(entrypoint: str, directory: str) -> Callable[..., Any]:
    """The function that `entrypoint` names, found from `directory`; imports the user's module.

    Raises:
        SpecError: no such file, module or function. What the user's module itself raises passes through.
    """
    where, _, name = entrypoint.rpartition(":")
    module = _load_file(Path(directory, where)) if where.endswith(".py") else importlib.import_module(where)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise SpecError(f"{where} has no function {name}", entrypoint, "name a function that the file defines")
    return found  # type: ignore[no-any-return]


def _load_file(path: Path) -> types.ModuleType:
    """Import the file under its own name, so that its functions pickle and its siblings import."""
    path = path.resolve()
    if not path.is_file():
        raise SpecError("the entrypoint's file does not exist", path, "correct the path; it is relative to the spec")
    _first_on_path(str(path.parent))
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None  # the suffix is .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def run_script(words: tuple[str, ...], directory: str) -> None:
    """Run `train.py --epochs 3` or `-m package.train --epochs 3` as `python` would, in this process."""
    if words[0] == "-m":
        _first_on_path(directory)
        sys.argv = [words[1], *words[2:]]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    path = Path(directory, words[0]).resolve()
    _first_on_path(str(path.parent))
    sys.argv = [words[0], *words[1:]]
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=str(path), __builtins__=__builtins__)
    sys.modules["__main__"] = main
    exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), main.__dict__)


def _first_on_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)
