#!/usr/bin/env python3
"""Writes what can be derived of the chart: its two schemas, the README's table of values, and its dashboard.

    python deploy/helm/generate.py            write the files
    python deploy/helm/generate.py --check    name those that are not as they would be written, and fail

values.schema.json is values.schema.yaml, written by hand, and the schema of a JobSpec, as `tfcluster schema` prints it;
job.schema.json is the latter alone. The table is made of the comments in values.yaml.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
CHART = HERE / "tfcluster"
TABLE = re.compile(r"(?<=<!-- values, written by generate\.py -->\n).*?(?=<!-- end of values -->)", re.DOTALL)
KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z]\w*):(?P<value>.*)$")


def main(arguments: list[str]) -> int:
    """Write or check the files; 1 if one was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a file is out of date")
    check = parser.parse_args(arguments).check
    wanted = contents()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(HERE)} is out of date · run python deploy/helm/generate.py", file=sys.stderr)
        else:
            path.write_text(wanted[path], "utf-8")
            print(f"wrote {path.relative_to(HERE)}")
    return int(check and bool(stale))


def contents() -> dict[Path, str]:
    """What each derived file should hold."""
    readme, dashboard = CHART / "README.md", HERE.parent / "grafana" / "ray-tfcluster.json"
    table = values_table((CHART / "values.yaml").read_text("utf-8"))
    return {
        CHART / "values.schema.json": json.dumps(values_schema(), indent=1, ensure_ascii=False) + "\n",
        CHART / "job.schema.json": json.dumps(job_schema(), indent=1, ensure_ascii=False) + "\n",
        CHART / "dashboards" / dashboard.name: dashboard.read_text("utf-8"),
        readme: TABLE.sub(lambda _: table, readme.read_text("utf-8")),
    }


def values_schema() -> dict[str, Any]:
    """The schema of values.yaml, in draft-07, which every Helm understands."""
    schema: dict[str, Any] = yaml.safe_load((HERE / "values.schema.yaml").read_text("utf-8"))
    job = _job()
    parts = job.pop("definitions", {})
    job["type"] = ["object", "string"]  # text, whose numbers Helm leaves alone, is looked into by a template
    schema["definitions"] |= {"JobSpec": job, **parts}
    return schema


def job_schema() -> dict[str, Any]:
    """The schema of a job that comes as text, for that template: less what explains it."""

    def bare(schema: Any, names: bool = False) -> Any:
        if isinstance(schema, list):
            return [bare(part) for part in schema]
        if not isinstance(schema, dict):
            return schema
        kept = {key: part for key, part in schema.items() if names or key not in ("description", "default")}
        return {key: bare(part, key in ("properties", "definitions") and not names) for key, part in kept.items()}

    made: dict[str, Any] = bare(_job())
    return made


def _job() -> dict[str, Any]:
    from cluster.spec import json_schema

    job: dict[str, Any] = draft_07(json_schema())
    job.pop("$schema")
    return job


def draft_07(schema: Any) -> Any:
    """A schema of draft 2020-12 in the words of draft-07: definitions, and arrays with one schema for each place.

    Titles are left out: they repeat the keys.
    """
    if isinstance(schema, list):
        return [draft_07(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {}
    for key, value in schema.items():
        if key == "prefixItems":
            made["items"] = draft_07(value)
            made["additionalItems"] = draft_07(schema.get("items", True))
        elif key == "enum" and len({type(choice) for choice in value}) > 1:  # to Helm 4, "2" and 2 are the same
            kinds = {type(choice): [other for other in value if type(other) is type(choice)] for choice in value}
            made["anyOf"] = [{"enum": choices} for choices in kinds.values()]
        elif key in ("default", "enum", "const"):  # values, not schemas
            made[key] = value
        elif key == "$ref":
            made[key] = value.replace("#/$defs/", "#/definitions/")
        elif key in ("properties", "$defs"):  # whose keys are names
            made["definitions" if key == "$defs" else key] = {name: draft_07(part) for name, part in value.items()}
        elif key not in ("title", "items") or (key == "items" and "prefixItems" not in schema):
            made[key] = draft_07(value)
    return made


def values_table(text: str) -> str:
    """The documented values of values.yaml as rows of a table."""
    found = list(documented(text))
    values, paths = yaml.safe_load(text), [path for path, _, _ in found]
    rows = [f"| `{path}` | {written or _parts(values, path, paths)} | {comment} |" for path, written, comment in found]
    return "\n".join(["| value | default | meaning |", "|---|---|---|", *rows, ""])


def documented(text: str) -> Iterator[tuple[str, str, str]]:
    """Path, default as it is written, and comment of each value that has a comment above it."""
    parents: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        found = KEY.match(line)
        if line.lstrip().startswith("#"):
            comment.append(line.strip().lstrip("# "))
        elif found:
            indent = len(found["indent"])
            parents = [(depth, name) for depth, name in parents if depth < indent] + [(indent, found["key"])]
            if comment:
                default = found["value"].strip()
                shown = f"`{default}`" if default else ""
                yield ".".join(name for _, name in parents), shown, " ".join(comment).replace("|", "\\|")
            comment = []
        else:
            comment = []


def _parts(values: Any, path: str, documented: Iterable[str]) -> str:
    """A default of several lines on one; nothing where its parts have rows of their own."""
    if any(other.startswith(f"{path}.") for other in documented):
        return ""
    for key in path.split("."):
        values = values[key]
    return f"`{yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=math.inf).strip()}`"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
