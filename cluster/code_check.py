"""Whether the entrypoint or script is there and takes its arguments; read with `ast`, never imported."""

from __future__ import annotations

import ast
import difflib
import importlib.machinery
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from cluster.errors import SpecError
from cluster.findings import Finding
from cluster.spec import JobSpec

#: A name whose definition cannot be told from the text: imported, assigned, decorated, or inside a star import.
_OPAQUE = object()
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
#: Python 3.11's parser counts its depth for all threads together, and fails where two are at it (gh-106905).
_PARSING = Lock()


def code_findings(spec: JobSpec, directory: Path) -> tuple[Finding, ...]:
    """Problems of the spec's entrypoint, script and prepare function; paths are relative to `directory`."""
    checks: list[Callable[[], None]] = []
    if isinstance(spec.entrypoint, str):
        checks.append(lambda: _check_named(str(spec.entrypoint), directory, 1, spec.args))
    elif spec.entrypoint is not None:
        checks.append(lambda: _check_callable(spec.entrypoint, spec.args))
    if spec.script is not None:
        checks.append(lambda: _check_script(spec.script or (), directory))
    if spec.prepare is not None:
        checks.append(lambda: _check_named(str(spec.prepare), directory, 0, {}))
    return tuple(finding for check in checks for finding in _caught(check))


def _caught(check: Callable[[], None]) -> Iterator[Finding]:
    try:
        check()
    except SpecError as error:
        yield Finding("error", error.happened, error.seen, error.todo)


def _check_named(name: str, directory: Path, positional: int, keywords: Mapping[str, Any]) -> None:
    where, _, function = name.rpartition(":")
    path = _file(where, directory) if where.endswith(".py") else find_module(where, directory)
    if path is None:  # compiled or built in: nothing to read
        return
    found = _definition(_parse(path), function.split("."))
    if found is None:
        known = _top_level_functions(_parse(path))
        near = difflib.get_close_matches(function, known, n=1)
        todo = f"did you mean {near[0]}?" if near else f"it has: {', '.join(known) or 'no function'}"
        raise SpecError(f"{where} has no function {function}", name, todo)
    if isinstance(found, ast.AsyncFunctionDef):
        raise SpecError("the entrypoint is an async function", name, "define it with def, not async def")
    if isinstance(found, ast.FunctionDef):
        seen = f"{function}({ast.unparse(found.args)})"
        _check_signature(seen, _signature(found.args), positional, keywords)


def _check_callable(entrypoint: Any, keywords: Mapping[str, Any]) -> None:
    name = getattr(entrypoint, "__qualname__", repr(entrypoint))
    if inspect.iscoroutinefunction(entrypoint):
        raise SpecError("the entrypoint is an async function", name, "define it with def, not async def")
    try:
        signature = inspect.signature(entrypoint)
    except (TypeError, ValueError):  # some built-ins have none
        return
    _check_signature(f"{name}{signature}", signature, 1, keywords)


def _check_signature(seen: str, signature: inspect.Signature, positional: int, keywords: Mapping[str, Any]) -> None:
    takes = [p for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY and p.kind is not p.VAR_KEYWORD]
    if positional and not takes:
        raise SpecError("the entrypoint takes no parameter", seen, "give it one for the TaskContext: ctx")
    try:
        signature.bind(*[None] * positional, **keywords)
    except TypeError as error:
        what = "the entrypoint cannot be called with ctx and args" if positional else "prepare takes an argument"
        raise SpecError(f"{what}: {error}", seen, "correct args, or the function's parameters") from None


def _check_script(words: Sequence[str], directory: Path) -> None:
    if words[0] == "-m":
        path = find_module(words[1], directory)
        if path is not None and path.name == "__init__.py":
            path = path.with_name("__main__.py")
            if not path.is_file():
                raise SpecError("the package cannot be run: it has no __main__.py", f"-m {words[1]}", f"add {path}")
        if path is not None:
            _parse(path)
        return
    if words[0] in ("python", "python3"):
        raise SpecError("script names the interpreter", " ".join(words), "begin with the script's own path")
    path = _file(words[0], directory)
    if path.suffix == ".py":
        _parse(path)


def _file(name: str, directory: Path) -> Path:
    path = Path(directory, name)
    if path.is_file():
        return path
    beside = [entry.name for entry in path.parent.glob("*.py")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    todo = f"did you mean {near[0]}?" if near else "correct the path; it is relative to the spec"
    raise SpecError("there is no such file", path, todo)


def find_module(name: str, directory: Path) -> Path | None:
    """The source file of module `name`, looked for in `directory` and on this interpreter's path; None if it has none.

    Parent packages are not imported, which `importlib.util.find_spec` would do.

    Raises:
        SpecError: there is no such module.
    """
    top, *rest = name.split(".")
    spec = importlib.machinery.PathFinder.find_spec(top, [str(directory)]) or _find_installed(top)
    if spec is None:
        raise SpecError("there is no such module", name, f"looked in {directory} and in the installed packages")
    if not rest:
        return _source(spec)
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    for part in rest[:-1]:
        folders = [folder / part for folder in folders if (folder / part).is_dir()]
    candidates = [f for folder in folders for f in (folder / rest[-1] / "__init__.py", folder / f"{rest[-1]}.py")]
    found = next((file for file in candidates if file.is_file()), None)
    if found is None and not any(next(folder.glob(f"{rest[-1]}*"), None) for folder in folders):
        raise SpecError("there is no such module", name, f"{top} has no {'.'.join(rest)}")
    return found


def _find_installed(top: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)  # a top-level name imports nothing
    except (ImportError, ValueError):
        return None


def _source(spec: importlib.machinery.ModuleSpec) -> Path | None:
    return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None


def _parse(path: Path) -> ast.Module:
    try:
        with _PARSING:
            return ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        where = f"{path}, line {error.lineno}"
        raise SpecError(f"{path.name} is not valid Python: {error.msg}", where, "correct it") from None
    except (OSError, ValueError) as error:
        raise SpecError(f"{path.name} cannot be read", path, str(error)) from None


def _definition(module: ast.Module, names: list[str]) -> object | None:
    """What `names` (`function`, or `Class.method`) stands for: a function's node, `_OPAQUE`, or None if undefined."""
    body: Sequence[ast.stmt] = module.body
    found: object | None = None
    for depth, name in enumerate(names):
        found = dict(_names(body)).get(name) or dict(_names(body)).get("*")
        if not isinstance(found, ast.ClassDef):
            return found if found is None or depth == len(names) - 1 else _OPAQUE
        body = found.body
    return _OPAQUE  # a class: called, it takes what its metaclass and __init__ say


def _names(body: Sequence[ast.stmt]) -> Iterator[tuple[str, object]]:
    """The names that `body` binds, the last one winning, in `if`, `try`, `with` and loops too."""
    for node in body:
        if isinstance(node, _FUNCTIONS):
            yield node.name, _OPAQUE if node.decorator_list else node
        elif isinstance(node, ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], _OPAQUE
        else:
            yield from ((name, _OPAQUE) for name in _assigned(node))
            yield from _names(_inner(node))
    if any(isinstance(node, _FUNCTIONS) and node.name == "__getattr__" for node in body):
        yield "*", _OPAQUE


def _assigned(node: ast.stmt) -> Iterator[str]:
    targets: Sequence[ast.AST] = ()
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        targets = [node.target]
    for target in targets:
        yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))


def _inner(node: ast.stmt) -> list[ast.stmt]:
    """The statements inside a compound statement that run in the same scope."""
    blocks = [getattr(node, field, []) for field in ("body", "orelse", "finalbody")]
    blocks += [handler.body for handler in getattr(node, "handlers", [])]
    blocks += [case.body for case in getattr(node, "cases", [])]
    return [statement for block in blocks for statement in block]


def _top_level_functions(module: ast.Module) -> list[str]:
    return [node.name for node in module.body if isinstance(node, _FUNCTIONS) and not node.name.startswith("_")]


def _signature(arguments: ast.arguments) -> inspect.Signature:
    """The signature that a function's `ast.arguments` would have; defaults are only present or absent."""
    kind = inspect.Parameter
    positional = [*arguments.posonlyargs, *arguments.args]
    first_default = len(positional) - len(arguments.defaults)
    parameters = [
        kind(
            argument.arg,
            kind.POSITIONAL_ONLY if i < len(arguments.posonlyargs) else kind.POSITIONAL_OR_KEYWORD,
            default=... if i >= first_default else kind.empty,
        )
        for i, argument in enumerate(positional)
    ]
    if arguments.vararg:
        parameters.append(kind(arguments.vararg.arg, kind.VAR_POSITIONAL))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parameters.append(kind(argument.arg, kind.KEYWORD_ONLY, default=kind.empty if default is None else ...))
    if arguments.kwarg:
        parameters.append(kind(arguments.kwarg.arg, kind.VAR_KEYWORD))
    return inspect.Signature(parameters)
