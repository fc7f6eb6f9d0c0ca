# ruff: noqa: E501 - in the tables a line is a case
"""Entrypoints and scripts are checked without being imported."""

from __future__ import annotations

import functools
import gc
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster.code_check import code_findings
from cluster.spec import parse

#: Runs when it is imported, which no check may do.
TRAP = "raise SystemExit('imported')\n"

MODULE = """
import functools
from elsewhere import borrowed
import package.deep as deep
if True:
    def conditional(ctx): ...
try:
    import tensorflow
except ImportError:
    def fallback(ctx): ...
def train(ctx, epochs=1, *, lr=0.1): ...
def needs_more(ctx, data): ...
def only_keywords(*, epochs): ...
def nothing(): ...
def anything(*args, **kwargs): ...
def positional(ctx, /): ...
async def later(ctx): ...
@functools.cache
def decorated(): ...
class Trainer:
    def run(self, ctx): ...
    @staticmethod
    def fit(ctx): ...
partial = functools.partial(train, epochs=3)
first, (second, third) = train, (train, train)
annotated: object = train
declared: object
def _private(ctx): ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """User code: a file, a package, a namespace, a script, all with a trap."""
    files = {
        "train.py": TRAP + MODULE,
        "sub/dir/job.py": TRAP + "def train(ctx): ...\n",
        "package/__init__.py": TRAP,
        "package/deep/__init__.py": TRAP + "def train(ctx): ...\n",
        "package/deep/er.py": TRAP + "def train(ctx): ...\n",
        "package/__main__.py": TRAP,
        "space/inner/job.py": TRAP + "def train(ctx): ...\n",
        "star.py": TRAP + "from elsewhere import *\n",
        "lazy.py": TRAP + "def __getattr__(name): ...\n",
        "broken.py": "def train(ctx):\n    pass\n  pass\n",
        "binary.py": "\x00",
        "script.sh": "not python at all (",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def problems(folder: Path, **spec: Any) -> list[str]:
    findings = code_findings(parse(spec), folder)
    assert all(finding.level == "error" for finding in findings)
    return [str(finding) for finding in findings]


@pytest.mark.parametrize(
    "entrypoint",
    [
        "train.py:train",
        "train:train",
        "./train.py:train",
        "sub/dir/job.py:train",
        "package.deep:train",
        "package.deep.er:train",
        "space.inner.job:train",
        "json.decoder:scanstring",
        "train.py:conditional",
        "train.py:fallback",
        "train.py:borrowed",
        "train.py:deep.anything",
        "train.py:decorated",
        "train.py:positional",
        "train.py:anything",
        "train.py:Trainer",
        "train.py:Trainer.fit",
        "train.py:partial",
        "train.py:third",
        "train.py:annotated",
        "train.py:_private",
        "star.py:whatever",
        "lazy.py:whatever",
    ],
)
def test_an_entrypoint_that_is_there(folder: Path, entrypoint: str) -> None:
    before = set(sys.modules)
    assert problems(folder, entrypoint=entrypoint) == []
    assert not {"train", "package", "space", "star", "lazy"} & (set(sys.modules) - before)


def test_an_absolute_path(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert problems(tmp_path_factory.mktemp("other"), entrypoint=f"{folder}/train.py:train") == []


@pytest.mark.parametrize(
    ("entrypoint", "sentence"),
    [
        ("trian.py:train", "there is no such file · {}/trian.py · did you mean train.py?"),
        ("sub/none/job.py:train", "there is no such file · {}/sub/none/job.py · correct the path; it is relative to the spec"),
        ("sub/dir.py:train", "there is no such file · {}/sub/dir.py · correct the path"),
        ("train.py:trian", "train.py has no function trian · train.py:trian · did you mean train?"),
        ("train.py:zzz", "train.py has no function zzz · train.py:zzz · it has: train, needs_more, only_keywords,"),
        ("train.py:declared", "train.py has no function declared"),
        ("train.py:Trainer.stop", "train.py has no function Trainer.stop"),
        ("package:train", "package has no function train · package:train · it has: no function"),
        ("broken.py:train", "broken.py is not valid Python: unindent does not match any outer indentation level · {}/broken.py, line 3"),
        ("binary.py:train", "binary.py "),
        ("absent:train", "there is no such module · absent · looked in {} and in the installed packages"),
        ("package.shallow:train", "there is no such module · package.shallow · package has no shallow"),
        ("package.deep.est:train", "there is no such module · package.deep.est · package has no deep.est"),
        ("train.py:nothing", "the entrypoint takes no parameter · nothing() · give it one for the TaskContext: ctx"),
        ("train.py:only_keywords", "the entrypoint takes no parameter · only_keywords(*, epochs)"),
        ("train.py:needs_more", "the entrypoint cannot be called with ctx and args: missing a required argument: 'data' · needs_more(ctx, data)"),
        ("train.py:later", "the entrypoint is an async function · train.py:later · define it with def, not async def"),
    ],
)  # fmt: skip
def test_an_entrypoint_that_is_not(folder: Path, entrypoint: str, sentence: str) -> None:
    (problem,) = problems(folder, entrypoint=entrypoint)
    assert problem.startswith(sentence.format(folder))


@pytest.mark.parametrize(
    ("function", "args", "problem"),
    [
        ("train", {"epochs": 3, "lr": 0.5}, None),
        ("anything", {"whatever": 1}, None),
        ("needs_more", {"data": 1}, None),
        ("train", {"epoch": 3}, "got an unexpected keyword argument 'epoch' · train(ctx, epochs=1, *, lr=0.1)"),
        ("train", {"ctx": 3}, "multiple values for argument 'ctx'"),
        ("positional", {"x": 3}, "got an unexpected keyword argument 'x' · positional(ctx, /)"),
    ],
)
def test_args_must_fit_the_function(folder: Path, function: str, args: dict[str, Any], problem: str | None) -> None:
    found = problems(folder, entrypoint=f"train.py:{function}", args=args)
    assert len(found) == (problem is not None)
    assert problem is None or problem in found[0]


def takes_ctx(ctx: object, epochs: int = 1) -> None: ...
def takes_nothing() -> None: ...
async def is_async(ctx: object) -> None: ...


@pytest.mark.parametrize(
    ("function", "args", "problem"),
    [
        (takes_ctx, {"epochs": 3}, None),
        (functools.partial(takes_ctx, epochs=1), {}, None),
        (lambda ctx: None, {}, None),
        (print, {}, None),
        (takes_ctx, {"lr": 3}, "got an unexpected keyword argument 'lr'"),
        (takes_nothing, {}, "the entrypoint takes no parameter · takes_nothing() -> "),
        (is_async, {}, "the entrypoint is an async function · is_async"),
    ],
)
def test_a_function_given_in_python(tmp_path: Path, function: Any, args: dict[str, Any], problem: str | None) -> None:
    found = problems(tmp_path, entrypoint=function, args=args)
    assert len(found) == (problem is not None)
    assert problem is None or problem in found[0]


@pytest.mark.parametrize(
    "script",
    [["train.py", "--epochs", 3], ["sub/dir/job.py"], ["-m", "package"], ["-m", "package.deep.er"], ["script.sh"]],
)
def test_a_script_that_is_there(folder: Path, script: list[Any]) -> None:
    assert problems(folder, script=script) == []


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (["trian.py"], "there is no such file · {}/trian.py · did you mean train.py?"),
        (["sub"], "there is no such file · {}/sub"),
        (["broken.py"], "broken.py is not valid Python"),
        (["python", "train.py"], "script names the interpreter · python train.py · begin with the script's own path"),
        (["-m", "absent"], "there is no such module · absent"),
        (["-m", "package.deep"], "the package cannot be run: it has no __main__.py · -m package.deep"),
        (["-m", "broken"], "broken.py is not valid Python"),
    ],
)
def test_a_script_that_is_not(folder: Path, script: list[str], sentence: str) -> None:
    (problem,) = problems(folder, script=script)
    assert problem.startswith(sentence.format(folder))


def test_prepare_is_checked_too_and_takes_no_argument(folder: Path) -> None:
    assert problems(folder, entrypoint="train.py:train", prepare="train.py:nothing") == []
    found = problems(folder, entrypoint="train.py:trian", prepare="train.py:train")
    assert [problem.partition(" · ")[0] for problem in found] == [
        "train.py has no function trian",
        "prepare takes an argument: missing a required argument: 'ctx'",
    ]


class Untidy:
    """Garbage that only the collector finds, and that lets other threads go on while it is collected."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        time.sleep(1e-4)


def test_several_threads_check_at_once(tmp_path: Path) -> None:
    """Python 3.11's parser raises SystemError where a second thread comes in while the first one's garbage is collected."""
    (tmp_path / "train.py").write_text("def train(ctx):\n" + "    print([1, (2, {3: 4})])\n" * 2000)
    job = parse({"entrypoint": "train.py:train", "roles": {"worker": 1}})

    def check(_: int) -> object:
        Untidy()
        return code_findings(job, tmp_path)

    thresholds = gc.get_threshold()
    gc.set_threshold(50, 2, 2)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(check, range(20))) == {()}
    finally:
        gc.set_threshold(*thresholds)
