"""Positions in real files: every row exactly once relative to the checkpoints that survive kills and resizes."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.checkpoints import Position
from cluster.datasets import Standing, Standings, Starts
from cluster.errors import SpecError
from pipelines.errors import DataError
from pipelines.layout import Request
from pipelines.reader import AHEAD, Reader, ReadPlan
from pipelines.shards import MIX_UNITS_ROWS, Remainder, Sharding, left, rows_in, whole
from pipelines.sources import Files
from tests.idle import until_idle

pytestmark = pytest.mark.timeout(120)

ROWS = 257


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Row ids 0 to 256 in three files of unequal row groups."""
    folder = tmp_path_factory.mktemp("rows")
    for number, ids in enumerate(np.split(np.arange(ROWS), [60, 71])):
        pq.write_table(pa.table({"id": ids}), folder / f"part-{number}.parquet", row_group_size=19)
    return folder


def batches_of(reader: Reader) -> Iterator[list[int]]:
    """The row ids of each batch of the iteration that begins now."""
    for chunk in reader.begin():
        (ids,) = reader.read(chunk)
        size = int(chunk[3])
        assert len(ids) == chunk[2] - chunk[1]
        yield from (ids[start : start + size].tolist() for start in range(0, len(ids), size))


@dataclass
class Job:
    """A job that is killed and started again, as `cluster.context` and the callbacks run one.

    Attributes:
        kept: rows by epoch that the surviving checkpoint has been trained on.
        position: the surviving checkpoint's position, as JSON.
        too_few: rows that were left of the last epoch, fewer than tasks: no epoch follows that could have them.
    """

    files: Path
    shuffle: bool
    remainder: Remainder
    counted_by_keras: bool
    epochs: int = 3
    kept: Counter[tuple[int, int]] = field(default_factory=Counter)
    position: str | None = None
    step: int = 0
    kills: int = 0
    attempts: int = 0
    too_few: int = 0

    def attempt(self, workers: int, batch: int, every: int, steps: int) -> bool:
        """Train on `workers` tasks until the job is done, which is told, or killed after some `steps`."""
        sharding = Sharding(workers, batch, self.remainder)
        now: list[int | None] = [None]
        standings = [Standings() for _ in range(workers)]
        readers = []
        first = 0
        for shard, standing in enumerate(standings):
            plan = ReadPlan(Files((str(self.files),)), Request(), sharding, shard, self.shuffle, 3)
            reader = Reader(plan)
            mine = standing.of("train", reader)
            if self.position is not None:
                saved = Position(**json.loads(self.position))
                resumed = standing.resume(saved.epoch, saved.batch, saved.data)
                first = resumed if self.counted_by_keras else saved.epoch
            epoch_now = (lambda: now[0]) if self.counted_by_keras else (lambda: None)
            reader.start_now = Starts(mine, epoch_now, lambda: False, first)
            readers.append(reader)
        self.step = 0 if self.position is None else Position(**json.loads(self.position)).step
        self.attempts += 1
        at, rest = standings[0].by_name["train"].resumed or (0, ())
        if at == self.epochs:
            self.too_few = rows_in(rest) - ROWS
        trained = Counter(self.kept)
        kill_at = self.step + steps
        for epoch in range(first, self.epochs):
            now[0] = epoch
            done = 0
            batches = standings[0].by_name["train"].left_in(epoch)
            for step in zip(*map(batches_of, readers), strict=True):
                assert len({len(ids) for ids in step}) <= 2
                done += 1
                self.step += 1
                trained.update((epoch, row) for ids in step for row in ids)
                if self.step >= kill_at:
                    self.kills += 1
                    return False
                if done % every == 0:
                    data = standings[0].to_dict(done, epoch if self.counted_by_keras else None)
                    self._save(Position(self.step, epoch, done, data), trained)
            assert done == batches
            data = standings[0].to_dict(0, epoch if self.counted_by_keras else None)
            self._save(Position(self.step, epoch + 1, 0, data), trained)
        return True

    def _save(self, position: Position, trained: Counter[tuple[int, int]]) -> None:
        self.position, self.kept = json.dumps(asdict(position)), Counter(trained)


def attempt(dice: random.Random, workers: list[int], batches: list[int]) -> tuple[int, int, int, int]:
    """Workers, batch, batches between checkpoints, and steps until the kill; now and then with one row to spare."""
    if dice.random() < 0.2:
        return 1, 256, 1, 2
    steps = dice.choice([1, 2, 5, 20, 60]) + dice.randrange(4)
    return dice.choice(workers), dice.choice(batches), dice.choice([1, 3, 7, 15]), steps


def by_row(job: Job) -> Counter[int]:
    """How often each row was trained on, over all epochs."""
    found = Counter[int]()
    for (_, row), count in job.kept.items():
        found[row] += count
    return found


@pytest.mark.parametrize("counted_by_keras", [False, True], ids=["own loop", "keras"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_each_row_once_an_epoch_over_hundreds_of_kills(files: Path, shuffle: bool, counted_by_keras: bool) -> None:
    dice = random.Random(1)
    kills = moved = 0
    while kills < 100:
        job = Job(files, shuffle, "keep", counted_by_keras)
        while not job.attempt(*attempt(dice, [1, 2, 3, 5, 8], [1, 4, 10, 33, 127])):
            pass
        kills += job.kills
        # Rows that were too few for the tasks move to the next epoch: each row is still once an epoch on the whole.
        rows = by_row(job)
        assert sum(rows.values()) == 3 * ROWS - job.too_few
        assert set(rows.values()) <= ({3, 2} if job.too_few else {3})
        assert set(job.kept.values()) <= {1, 2}
        twice = sum(count == 2 for count in job.kept.values())
        assert twice + job.too_few < 8 * job.attempts
        moved += twice
    assert moved


@pytest.mark.parametrize("shuffle", [False, True])
def test_no_row_twice_an_epoch_when_the_remainder_is_dropped(files: Path, shuffle: bool) -> None:
    dice = random.Random(2)
    kills = 0
    while kills < 100:
        job = Job(files, shuffle, "drop", False)
        largest = 0
        done = False
        while not done:
            workers, batch, *when = attempt(dice, [1, 2, 3, 5], [1, 4, 10])
            largest = max(largest, workers * (batch + 1))
            done = job.attempt(workers, batch, *when)
        kills += job.kills
        assert set(job.kept.values()) == {1}
        for epoch in range(3):
            rows = sum(1 for number, _ in job.kept if number == epoch)
            # Each attempt leaves out less than a batch on every task, and what is left may be too few for the next.
            assert rows > ROWS - largest * (job.attempts + 1)


def test_two_kills_without_a_checkpoint_between_them_resume_alike(files: Path) -> None:
    def rest(position: Position, workers: int) -> list[list[int]]:
        found = []
        for shard in range(workers):
            reader = Reader(ReadPlan(Files((str(files),)), sharding=Sharding(workers, 10), shard=shard, shuffle=True))
            standings = Standings()
            standing = standings.of("train", reader)
            first = standings.resume(position.epoch, position.batch, position.data)
            reader.start_now = Starts(standing, lambda: None, lambda: False, first)
            found.append([row for batch in batches_of(reader) for row in batch])
        return found

    reader = Reader(ReadPlan(Files((str(files),)), sharding=Sharding(2, 10), shard=0, shuffle=True))
    standings = Standings()
    standings.of("train", reader).begin(4, resumes=True)
    position = Position(5, 4, 5, standings.to_dict(1))
    assert rest(position, 3) == rest(position, 3)
    rows = sorted(itertools.chain(*rest(position, 3)))
    assert len(rows) == ROWS - 2 * 5 * 10
    assert rows == sorted(itertools.chain(*rest(position, 1)))


def standing_at(files: Path, sharding: Sharding, **plan: Any) -> Standings:
    standings = Standings()
    standings.of("train", Reader(ReadPlan(Files((str(files),)), sharding=sharding, **plan)))
    return standings


@pytest.mark.parametrize("remainder", ["keep", "drop"])
def test_fewer_rows_left_than_workers(files: Path, remainder: Remainder) -> None:
    """One row is left, and eight tasks cannot share it: with keep it goes to the next epoch."""
    before = standing_at(files, Sharding(1, 256 if remainder == "keep" else 64, remainder))
    before.by_name["train"].begin(0, resumes=True)
    done = 1 if remainder == "keep" else 4
    saved = json.loads(json.dumps(before.to_dict(1)))
    after = standing_at(files, Sharding(8, 4, remainder))
    assert after.resume(0, done, saved) == 1
    assert after.batches_done(1) <= 0
    epoch, line = after.by_name["train"].begin(1, resumes=True)
    kept = ((0, 256, 257),) if remainder == "keep" else ()
    assert (epoch, line) == (1, (*kept, (1, 0, 257)) if kept else line)
    assert after.by_name["train"].left_in(1) == (9 if remainder == "keep" else 8)
    assert after.by_name["train"].left_in(2) == after.by_name["train"].batches


def test_all_batches_done_goes_on_with_the_next_epoch(files: Path) -> None:
    before = standing_at(files, Sharding(2, 64))
    before.by_name["train"].begin(0, resumes=True)
    after = standing_at(files, Sharding(2, 64))
    assert after.resume(0, 3, before.to_dict(1)) == 1
    assert after.batches_done(1) == 0
    assert after.by_name["train"].begin(1, resumes=True) == (1, whole(1, ROWS))


def test_a_loop_of_ones_own_finds_nothing_left_of_an_epoch_that_was_done(files: Path) -> None:
    before = standing_at(files, Sharding(2, 64))
    before.by_name["train"].begin(0, resumes=True)
    reader = Reader(ReadPlan(Files((str(files),)), sharding=Sharding(2, 64)))
    standings = Standings()
    standing = standings.of("train", reader)
    standings.resume(0, 3, before.to_dict(1))
    reader.start_now = Starts(standing, lambda: None, lambda: False, 0)
    assert [len(list(batches_of(reader))) for _ in range(3)] == [0, 3, 3]
    assert [standings.by_name["train"].left_in(epoch) for epoch in range(3)] == [0, 3, 3]


def test_a_position_tells_of_the_datasets_that_are_trained_on(files: Path) -> None:
    standings = Standings()
    for name in ("train", "valid", "unread", "stale"):
        standings.of(name, Reader(ReadPlan(Files((str(files),)), sharding=Sharding(2, 64))))
    standings.by_name["train"].begin(4, resumes=True)
    standings.by_name["valid"].begin(4, resumes=False)
    standings.by_name["stale"].begin(3, resumes=True)
    assert [*standings.to_dict(1, 4)] == ["train"]
    assert [*standings.to_dict(1)] == ["train", "stale"]
    assert standings.to_dict(0, 4) == {}


def test_a_whole_epoch_needs_no_position_of_the_data(files: Path) -> None:
    standings = standing_at(files, Sharding(2, 64))
    assert standings.resume(7, 0, {}) == 7
    assert standings.resume(7, 3, {}) == 7
    assert standings.batches_done(7) == 0


def test_a_step_of_several_replicas_takes_as_many_batches(files: Path) -> None:
    def standings_of(per_step: int) -> Standings:
        standings = Standings()
        standings.of("train", Reader(ReadPlan(Files((str(files),)), sharding=Sharding(2, 10))), per_step)
        return standings

    before = standings_of(2)
    before.by_name["train"].begin(5, resumes=True)
    after = standings_of(2)
    assert after.resume(5, 4, before.to_dict(4)) == 5
    assert after.by_name["train"].left_in(5) == 13 - 8
    assert (after.batches_done(5), after.batches_left(5)) == (7 - 3, 3)
    after = standings_of(1)
    after.resume(5, 4, before.to_dict(4))
    assert (after.batches_done(5), after.batches_left(5)) == (8, 5)


def test_a_resumed_epoch_says_how_many_batches_are_left(files: Path) -> None:
    before = standing_at(files, Sharding(2, 10))
    before.by_name["train"].begin(5, resumes=True)
    after = standing_at(files, Sharding(2, 10))
    assert after.resume(5, 4, before.to_dict(1)) == 5
    assert after.by_name["train"].left_in(5) == 13 - 4
    assert after.batches_done(5) == 4
    assert after.batches_done(6) == 0
    assert after.batches_left(5) == 9


def test_evaluation_is_on_all_rows_also_while_an_epoch_is_resumed(files: Path) -> None:
    before = standing_at(files, Sharding(1, 10))
    before.by_name["train"].begin(0, resumes=True)
    reader = Reader(ReadPlan(Files((str(files),)), sharding=Sharding(1, 10)))
    standings, testing = Standings(), [True]
    standing = standings.of("train", reader)
    standings.resume(0, 20, before.to_dict(1))
    reader.start_now = Starts(standing, lambda: 0, lambda: testing[0], 0)
    assert sum(map(len, batches_of(reader))) == ROWS
    testing[0] = False
    assert sum(map(len, batches_of(reader))) == ROWS - 200


@pytest.mark.parametrize(
    ("change", "seen"),
    [({"shuffle": True}, "'shuffle': True"), ({"seed": 1}, "'seed': 1")],
)
def test_a_position_of_another_order_is_refused(files: Path, change: dict[str, Any], seen: str) -> None:
    before = standing_at(files, Sharding(2, 10))
    before.by_name["train"].begin(0, resumes=True)
    with pytest.raises(DataError, match=r"data\.train is not what it was when the checkpoint was written") as caught:
        standing_at(files, Sharding(2, 10), **change).resume(0, 1, before.to_dict(1))
    assert seen in caught.value.seen
    assert caught.value.todo == "put the files and the order back, or start a new run"


def test_a_position_of_other_files_is_refused(files: Path, tmp_path: Path) -> None:
    before = standing_at(files, Sharding(2, 10))
    before.by_name["train"].begin(0, resumes=True)
    pq.write_table(pa.table({"id": range(300)}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"257 rows, .*; now 300 rows"):
        standing_at(tmp_path / "x.parquet", Sharding(2, 10)).resume(0, 1, before.to_dict(1))


def test_a_position_of_other_files_with_as_many_rows_is_refused(files: Path, tmp_path: Path) -> None:
    before = standing_at(files, Sharding(2, 10))
    before.by_name["train"].begin(0, resumes=True)
    saved = json.loads(json.dumps(before.to_dict(1)))
    moved = tmp_path / "moved"
    shutil.copytree(files, moved)
    assert standing_at(moved, Sharding(2, 10)).resume(0, 1, saved) == 0, "the folder may be another"
    (moved / "part-1.parquet").rename(moved / "part-3.parquet")
    with pytest.raises(DataError, match="files of other names or with other row groups"):
        standing_at(moved, Sharding(2, 10)).resume(0, 1, saved)
    pq.write_table(pa.table({"id": range(ROWS)}), tmp_path / "one.parquet", row_group_size=19)
    with pytest.raises(DataError, match=r"257 rows, .*; now 257 rows, .*, in files of other names"):
        standing_at(tmp_path / "one.parquet", Sharding(2, 10)).resume(0, 1, saved)


def test_a_position_without_a_digest_of_the_files_is_taken(files: Path) -> None:
    """One that an earlier version wrote."""
    before = standing_at(files, Sharding(2, 10))
    before.by_name["train"].begin(0, resumes=True)
    saved = before.to_dict(1)
    del saved["train"]["listing"]
    after = standing_at(files, Sharding(2, 10))
    assert after.resume(0, 1, saved) == 0
    assert after.by_name["train"].left_in(0) == 12


def test_batches_in_any_order_have_positions_between_epochs_only(files: Path) -> None:
    """How many were trained on does not tell which: a restart repeats the epoch from its start."""
    standings = Standings()
    reader = Reader(ReadPlan(Files((str(files),)), sharding=Sharding(2, 10)))
    standings.of("train", reader, ordered=False).begin(4, resumes=True)
    assert standings.to_dict(3, 4) == {}
    assert standings.to_dict(3) == {}
    assert standings.resume(4, 3, standings.to_dict(3)) == 4
    assert (standings.batches_done(4), standings.batches_left(4)) == (0, 0)
    assert standings.by_name["train"].begin(4, resumes=True) == (4, None)


def stands(files: Path) -> Standing:
    """Of 13 steps an epoch, in a fit that was given another number."""
    return standing_at(files, Sharding(2, 10)).by_name["train"]


def test_an_iteration_goes_on_over_epochs_of_another_number_of_steps(files: Path) -> None:
    before = standing_at(files, Sharding(2, 10))
    standing = before.by_name["train"]
    assert standing.begin(0, resumes=True, steps=0) == (0, None)
    assert before.to_dict(0, 0, 0) == {}
    saved = before.to_dict(0, 1, 10)
    assert saved["train"]["done"] == 10
    after = standing_at(files, Sharding(2, 10))
    assert after.resume(2, 2, saved) == 2
    assert (after.batches_left(2), after.by_name["train"].begin(2, resumes=True, steps=0)[0]) == (3, 2)
    assert after.by_name["train"].line == left(whole(0, ROWS), Sharding(2, 10), 10)
    assert after.to_dict(0, 2, 2)["train"]["done"] == 2
    assert after.to_dict(0, 2, 3) == {}, "nothing is left of the data"
    assert after.by_name["train"].begin(2, resumes=True, steps=3) == (3, None), "not the rest once more"
    assert after.to_dict(0, 3, 5)["train"]["done"] == 2


def test_the_next_iteration_may_be_made_in_the_last_step_of_the_one_before(files: Path) -> None:
    standing = stands(files)
    standing.begin(0, resumes=True, steps=0)
    assert standing.begin(0, resumes=True, steps=12)[0] == 1
    assert (standing.at(13), standing.at(17)) == (None, (whole(1, ROWS), 4))


def test_what_is_begun_ahead_has_no_position(files: Path) -> None:
    """As `repeat` does: the last batches of one iteration are used when the next has begun already."""
    standing = stands(files)
    standing.begin(0, resumes=True, steps=0)
    assert standing.at(7) == (whole(0, ROWS), 7)
    standing.begin(0, resumes=True, steps=8)
    assert standing.at(9) is None
    standing.begin(1, resumes=True, steps=21)
    assert standing.at(25) is None


def test_an_endless_iteration_is_followed_over_its_passes(files: Path) -> None:
    before = standing_at(files, Sharding(2, 10))
    standing = before.by_name["train"]
    assert standing.begin_endless(0, resumes=True, steps=0) == (0, whole(0, ROWS))
    assert [standing.at(steps) for steps in (0, 12, 13, 40)] == [
        (whole(0, ROWS), 0),
        (whole(0, ROWS), 12),
        (whole(1, ROWS), 0),
        (whole(3, ROWS), 1),
    ]
    after = standing_at(files, Sharding(2, 10))
    assert after.resume(7, 2, before.to_dict(2, 7, 23)) == 7
    resumed = after.by_name["train"]
    rest = left(whole(1, ROWS), Sharding(2, 10), 10)
    assert resumed.begin_endless(7, resumes=True, steps=0) == (7, rest)
    assert [resumed.at(steps) for steps in (2, 3)] == [(rest, 2), (whole(2, ROWS), 0)]
    assert not resumed.is_stale(8, 9)
    assert resumed.begin_endless(3, resumes=False, steps=9) == (3, None), "to evaluate, which changes nothing"
    assert resumed.at(3) == (whole(2, ROWS), 0)


def test_an_endless_iteration_of_a_loop_of_steps(files: Path) -> None:
    """Positions have no epoch, and a batch that counts from where the attempt began."""
    before = standing_at(files, Sharding(2, 10))
    before.by_name["train"].begin_endless(0, resumes=True)
    assert before.to_dict(0, 0) == {}
    assert before.to_dict(9, 1) == {}, "whoever counts epochs counts batches within them"
    after = standing_at(files, Sharding(2, 10))
    assert after.resume(0, 20, before.to_dict(20, 0)) == 0
    rest = left(whole(1, ROWS), Sharding(2, 10), 7)
    assert after.by_name["train"].begin_endless(0, resumes=True) == (0, rest)
    assert after.to_dict(6, 0)["train"]["line"] == whole(2, ROWS), "7 and 6 are an epoch"


def test_steps_of_several_replicas_need_not_end_where_an_endless_pass_does(files: Path) -> None:
    """Of 13 batches and two replicas the seventh step takes the last batch, and the first of the next pass."""
    before = Standings()
    before.of("train", Reader(ReadPlan(Files((str(files),)), sharding=Sharding(2, 10))), 2)
    standing = before.by_name["train"]
    standing.begin_endless(0, resumes=True, steps=0)
    assert [standing.at(steps) for steps in (6, 7, 13)] == [
        (whole(0, ROWS), 12),
        (whole(1, ROWS), 1),
        (whole(2, ROWS), 0),
    ]
    after = standing_at(files, Sharding(2, 10))
    after.resume(0, 7, before.to_dict(0, 0, 7))
    rest = left(whole(1, ROWS), Sharding(2, 10), 1)
    assert after.by_name["train"].begin_endless(0, resumes=True, steps=0) == (0, rest)


def test_an_iteration_that_ends_may_follow_one_without_end(files: Path) -> None:
    standing = stands(files)
    standing.begin_endless(0, resumes=True, steps=0)
    standing.begin(4, resumes=True, steps=5)
    assert (standing.at(8), standing.at(5 + 13)) == ((whole(4, ROWS), 3), None)


def test_few_rows_left_join_the_next_iteration_not_the_next_epoch_of_other_length(files: Path) -> None:
    before = standing_at(files, Sharding(1, 256))
    before.by_name["train"].begin(0, resumes=True, steps=0)
    after = standing_at(files, Sharding(8, 4))
    assert after.resume(5, 1, before.to_dict(1, 5, 1)) == 5
    assert after.by_name["train"].begin(5, resumes=True, steps=0)[1] == ((0, 256, 257), (5, 0, 257))


@pytest.mark.parametrize(("steps", "then"), [(None, (None, None)), (0, (4, 6))], ids=["whole epochs", "steps given"])
def test_an_epoch_on_a_cache_of_what_was_left_of_another_is_refused(
    files: Path, steps: int | None, then: tuple[int | None, int | None]
) -> None:
    before = standing_at(files, Sharding(2, 10))
    before.by_name["train"].begin(0, resumes=True, steps=steps)
    after = standing_at(files, Sharding(2, 10))
    after.resume(0, 9, before.to_dict(9, 0, None if steps is None else 9))
    after.check_fresh(0, steps)
    after.by_name["train"].begin(0, resumes=True, steps=steps)
    after.check_fresh(0, then[0])
    with pytest.raises(SpecError, match="a cache that holds only what was left of an earlier one") as caught:
        after.check_fresh(1, then[1])
    assert caught.value.seen == "epoch 2, train"
    after.by_name["train"].begin(1, resumes=True, steps=then[0])
    after.check_fresh(1, then[1])


def test_a_cache_of_a_whole_epoch_is_fine(files: Path) -> None:
    standings = standing_at(files, Sharding(2, 10))
    standings.by_name["train"].begin(0, resumes=True)
    standings.check_fresh(5, None)
    standings.resume(3, 0, {})
    standings.by_name["train"].begin(3, resumes=True)
    standings.check_fresh(5, None)


LARGE = 100_000_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 million rows, all zero, in 100 row groups of a file of some kilobytes."""
    path = tmp_path_factory.mktemp("large") / "x.parquet"
    table = pa.table({"zero": pa.repeat(pa.scalar(0, pa.int8()), LARGE // 100)})
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(100):
            writer.write_table(table)
    return path


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_end_of_an_epoch_of_100_million_rows_is_resumed_as_quickly_as_its_start(large: Path, shuffle: bool) -> None:
    sharding = Sharding(4, 1024)

    def first_batch(done: int) -> tuple[int, list[tuple[str, int]]]:
        """Calls of functions until the first chunk is there, and the row groups that were read for it."""
        line = left(whole(0, LARGE), sharding, done) if done else None
        reader = Reader(ReadPlan(Files((str(large),)), Request(), sharding, 3, shuffle, line=line))
        read: list[tuple[str, int]] = []
        source, original = reader.source, reader.source.read

        def counted(unit: Any) -> pa.Table:
            read.append((unit.file, unit.row_group))
            return original(unit)

        source.read = counted  # type: ignore[method-assign]
        calls = 0

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            chunk = reader.begin()[0]
            reader.read(chunk)
        finally:
            sys.setprofile(None)
            until_idle(reader)
        return calls, read

    batches = LARGE // 4 // 1024
    start_calls, start_read = first_batch(0)
    end_calls, end_read = first_batch(batches - 100)
    # Of 100 row groups: the one in use and those ahead of it, or as many blocks of them; the last may be small.
    block = -(-MIX_UNITS_ROWS // (LARGE // 100)) if shuffle else 1
    assert len(end_read) <= len(start_read) <= (1 + AHEAD) * block
    assert end_calls <= start_calls * 1.2 + 100
