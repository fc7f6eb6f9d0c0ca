"""What several runs tell beside each other: short names, which value is the best, and what differs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from cluster.comparing import (
    MOST_METRICS,
    Row,
    best_places,
    best_point,
    curves_of,
    differences,
    figures,
    higher_is_better,
    labels,
    next_command,
    step_shares,
)
from cluster.comparison import read_runs, render
from cluster.runs import Run, read_run
from tests.made_runs import (
    BEGAN,
    WORKERS,
    Made,
    failed,
    lost,
    own_loop,
    running,
    several,
    succeeded,
    thousand,
    verdict_document,
)

PARTS = ("input", "compute", "communication", "runtime", "other")


def rows_of(*runs: Run, now: float = BEGAN + 300) -> dict[str, Row]:
    return {row.label: row for row in figures(runs, now)}


@pytest.mark.parametrize(
    ("uris", "names"),
    [
        (["runs/flights-20260921-140000-beef", "runs/flights-20260921-150000-dead"], ["140000-beef", "150000-dead"]),
        (["runs/flights-1", "runs/servers-1/"], ["flights-1", "servers-1"]),
        (["runs/a-1", "runs/a-1-2"], ["1", "1-2"]),
        (["runs/a", "runs/a-2"], ["a", "a-2"]),
        (["old/flights-1", "new/flights-1", "new/flights-2"], ["old/flights-1", "new/flights-1", "new/flights-2"]),
        (["s3://bucket/runs/x-1?region=eu-1", "s3://bucket/runs/x-2?region=eu-1"], ["1", "2"]),
        (["runs/only-1"], ["only-1"]),
    ],
)
def test_a_run_is_called_what_tells_it_from_the_others(uris: list[str], names: list[str]) -> None:
    assert labels(uris) == names


def test_figures_stand_side_by_side(tmp_path: Path) -> None:
    rows = rows_of(read_run(succeeded(tmp_path).uri), read_run(failed(tmp_path).uri), read_run(lost(tmp_path).uri))
    assert rows["status"].cells == ("succeeded", "failed", "lost")
    assert rows["duration"].cells == ("3m36s", "2m02s", "52.5s")
    assert rows["steps"].cells == ("4,000 of 4,000", "2,000 of 4,000", "800 of 4,000")
    assert rows["examples a second"].cells == ("20.5k", "20.5k", "20.5k")
    assert rows["loss"].cells == ("0.23523", "0.5251", "1.4333")
    assert rows["loss"].best == {0}
    assert rows["accuracy, best"].cells == ("0.97146 at 4,000", "0.8489 at 2,000", "0.58927 at 800")
    assert rows["accuracy, best"].best == {0}
    assert rows["evaluator/loss"].cells == ("0.33333", "", "")
    assert rows["evaluator/loss"].best == frozenset()  # no other run to compare it with
    assert rows["input busy"].cells == ("40%", "40%", "40%")
    assert rows["restarts"].cells == ("0", "1 of the whole job", "0")
    assert rows["tasks"].cells == ("3 worker, 1 evaluator", "3 worker", "3 worker")


def test_a_run_that_goes_on_is_as_fast_as_it_is_now(tmp_path: Path) -> None:
    made = running(tmp_path)
    run = read_run(made.uri)
    assert rows_of(run, run, now=made.began + 42.0)["steps a second"].cells == ("20", "20")
    assert rows_of(run, run, now=made.began + 400.0)["steps a second"].cells[0].startswith("1.")


def test_rows_that_no_run_fills_are_left_out(tmp_path: Path) -> None:
    runs = [read_run(own_loop(tmp_path).uri), read_run(Made(tmp_path, "job-1").uri)]
    rows = rows_of(*runs)
    assert rows["steps"].cells == ("480 of 720", "")
    assert rows["tasks"].cells == ("1 worker", "")
    assert not {"examples a second", "input busy", "loss"} & set(rows)


def test_a_run_that_has_told_nothing_has_no_figures(tmp_path: Path) -> None:
    silent = Made(tmp_path, "job-1")
    Path(silent.uri, "events.jsonl").write_text("")
    rows = rows_of(read_run(own_loop(tmp_path).uri), read_run(silent.uri))
    assert [label for label, row in rows.items() if row.cells[1]] == ["status", "restarts"]
    assert "1970" not in render(read_runs([silent.uri, own_loop(tmp_path / "other").uri]))


def metrics(folder: Path, name: str, *values: float, metric: str = "loss") -> Run:
    made = Made(folder, name)
    made.start(0.0, WORKERS[:1])
    for step, value in enumerate(values, 1):
        made.event(10.0 + step, "step", 1, WORKERS[0], step=step, metrics={metric: value})
    return read_run(made.uri)


def test_the_best_need_not_be_the_last_and_no_number_is_none(tmp_path: Path) -> None:
    rows = rows_of(metrics(tmp_path, "a", 3.0, 1.0, 2.0), metrics(tmp_path, "b", 1.5, math.nan))
    assert (rows["loss"].cells, rows["loss"].best) == (("2", "nan"), frozenset())
    assert rows["loss, best"] == Row("loss, best", ("1 at 2", "1.5 at 1"), frozenset({0}))


def test_where_nobody_knows_which_way_is_better_there_is_no_best(tmp_path: Path) -> None:
    rows = rows_of(metrics(tmp_path, "a", 3.0, metric="temperature"), metrics(tmp_path, "b", 1.5, metric="temperature"))
    assert (rows["temperature"].cells, rows["temperature"].best) == (("3", "1.5"), frozenset())
    assert "temperature, best" not in rows


def test_of_many_metrics_those_that_most_runs_have_are_shown(tmp_path: Path) -> None:
    first = Made(tmp_path, "a")
    first.start(0.0, WORKERS[:1])
    own = {f"x{number}": 1.0 for number in range(2 * MOST_METRICS)}
    first.event(11.0, "step", 1, WORKERS[0], step=1, metrics={**own, "loss": 1.0})
    rows = rows_of(read_run(first.uri), metrics(tmp_path, "b", 2.0))
    shown = [label for label in rows if label.startswith("x") or label == "loss"]
    assert shown == ["loss", *list(own)[: MOST_METRICS - 1]]


def test_numbers_that_a_function_returned_are_figures_too(tmp_path: Path) -> None:
    runs = []
    for name, value in (
        ("a", {"test_mae": 10.25, "rows": 7, "ok": True, "deep": {"x": 1}}),
        ("b", {"test_mae": 9}),
        ("c", 3),
    ):
        made = Made(tmp_path, name)
        made.end(1.0, "succeeded", value=value)
        runs.append(read_run(made.uri))
    rows = rows_of(*runs)
    returned = [row for label, row in rows.items() if label.startswith("returned")]
    assert returned == [Row("returned test_mae", ("10.25", "9", "")), Row("returned rows", ("7", "", ""))]


@pytest.mark.parametrize(
    ("metric", "higher"),
    [
        ("loss", False), ("val_mean_absolute_error", False), ("sparse_categorical_crossentropy", False),
        ("val_sparse_categorical_accuracy", True), ("evaluator/AUC", True), ("accuracy_loss", False), ("reward", True),
        ("learning_rate", None), ("", None),
    ],
)  # fmt: skip
def test_which_way_is_better_is_in_the_name(metric: str, higher: bool | None) -> None:
    assert higher_is_better(metric) is higher


def test_the_best_of_values() -> None:
    assert best_places([1.0, None, 3.0, 3.0], higher=True) == {2, 3}
    assert best_places([1.0, None, 3.0], higher=False) == {0}
    assert best_places([1.0, 1.0], higher=True) == frozenset()
    assert best_places([1.0, math.nan], higher=True) == frozenset()
    assert best_places([1.0, 2.0], higher=None) == frozenset()
    assert best_point([(1, 2.0), (2, math.inf), (3, 2.0)], higher=True) == (1, 2.0)
    assert best_point([(1, math.nan)], higher=False) is None


# What differs


def test_only_keys_that_differ_are_told() -> None:
    documents: list[dict[str, Any]] = [
        {"name": "a", "args": {"rate": 0.1, "deep": True}, "roles": {"worker": {"replicas": 2}}},
        {"name": "a", "args": {"rate": 0.2, "deep": None}, "roles": {"worker": {"replicas": 2, "gpus": 1}}},
    ]
    assert differences(documents) == [
        Row("args.rate", ("0.1", "0.2")),
        Row("args.deep", ("true", "null")),
        Row("roles.worker.gpus", ("–", "1")),
    ]


def test_lists_and_texts_are_whole_values_and_long_ones_are_cut() -> None:
    found = differences([{"script": ["train.py", "é"], "x": "y" * 1000}, {"script": ["train.py"], "x": "z"}])
    assert found[0] == Row("script", ('["train.py", "é"]', '["train.py"]'))
    assert len(found[1].cells[0]) == 299


def test_secrets_are_stars_also_in_files_that_have_none() -> None:
    one = {"storage": "s3://key:hush-hush@bucket/runs", "args": {"api_key": "hush-hush", "rate": 1}}
    two = {"storage": "s3://key:hush-hush@other/runs", "args": {"api_key": "hush-hash", "rate": 1}}
    assert differences([one, two]) == [Row("storage", ("s3://key:***@bucket/runs", "s3://key:***@other/runs"))]


def test_what_is_not_known_differs_from_nothing() -> None:
    assert differences([{"a": 1}, None, {"a": 1}]) == []
    assert differences([{"a": 1}, None, {"a": 2}]) == [Row("a", ("1", "?", "2"))]
    assert differences([None, None]) == []


# Curves, profiles, and what comes next


def test_curves_of_one_metric_belong_together_and_the_pace_is_last(tmp_path: Path) -> None:
    runs = [read_run(made.uri) for made in (succeeded(tmp_path), lost(tmp_path))]
    found = curves_of(runs)
    assert list(found) == ["loss", "accuracy", "val_loss", "evaluator/loss", "steps_per_second"]
    assert [list(curves) for curves in found.values()] == [[0, 1], [0, 1], [0], [0], [0, 1]]


def test_parts_of_a_step_are_the_mean_of_the_tasks_that_make_it() -> None:
    shares = step_shares(verdict_document(), PARTS)
    assert shares["compute"] == pytest.approx(0.58)
    assert sum(shares.values()) == pytest.approx(1.0)
    document = verdict_document()
    document["tasks"][0]["steps"]["count"] = 0
    assert step_shares(document, PARTS)["compute"] == 0.61
    document["tasks"][0] = {**document["tasks"][1], "compared": False, "shares": dict.fromkeys(PARTS, 0.2)}
    assert step_shares(document, PARTS)["compute"] == 0.61
    assert step_shares({}, PARTS) == {}


def test_what_comes_next_is_a_run_that_went_wrong_or_all_curves(tmp_path: Path) -> None:
    good = [read_run(made.uri) for made in several(tmp_path / "runs")[:2]]
    assert next_command(good) == f"tfcluster tensorboard {tmp_path / 'runs'}"
    elsewhere = read_run(succeeded(tmp_path / "other").uri)
    assert next_command([*good, elsewhere]) == f"tfcluster report {elsewhere.uri}"
    bad = read_run(thousand(tmp_path / "runs").uri)
    assert next_command([bad, *good]) == f"tfcluster report {bad.uri}"


def test_long_values_that_differ_at_their_end_differ() -> None:
    files = [f"s3://bucket/folder/part-{number:04d}.parquet" for number in range(40)]
    (row,) = differences([{"files": files}, {"files": [*files[:-1], "s3://bucket/folder/other.parquet"]}])
    assert row.cells[0] != row.cells[1]
    assert all(len(cell) <= 300 and cell.startswith("…") for cell in row.cells)
    assert "other.parquet" in row.cells[1]
