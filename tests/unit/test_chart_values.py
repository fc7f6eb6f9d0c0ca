"""The chart's schema, README and dashboard are what generate.py makes of their sources; no rule is lost on the way."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

from cluster.spec import json_schema

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def load(folder: Path) -> ModuleType:
    """generate.py of this `deploy` folder."""
    spec = importlib.util.spec_from_file_location("generate", folder / "helm" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DEPLOY / "helm/tfcluster/values.schema.json").read_text("utf-8"))
    return document


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "helm/tfcluster/values.yaml").read_text("utf-8"))
    return document


def test_the_chart_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert load(DEPLOY).main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "old", "new", "stale"),
    [
        ("helm/tfcluster/values.yaml", "# Who queues", "# Whoever queues", "README.md"),
        ("helm/values.schema.yaml", "Values of the chart", "Values of a chart", "values.schema.json"),
        ("grafana/ray-tfcluster.json", "{", "{ ", "ray-tfcluster.json"),
    ],
)
def test_a_change_is_found_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, old: str, new: str, stale: str
) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    changed = tmp_path / "deploy" / path
    text = changed.read_text("utf-8")
    assert old in text
    changed.write_text(text.replace(old, new, 1), "utf-8")
    generate = load(tmp_path / "deploy")
    assert generate.main(["--check"]) == 1
    assert stale in capsys.readouterr().err
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_the_schema_is_one_of_draft_07(schema: dict[str, Any], values: dict[str, Any]) -> None:
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(values)
    text = json.dumps(schema)
    assert "$defs" not in text
    assert "prefixItems" not in text


def test_every_value_is_in_the_schema(schema: dict[str, Any], values: dict[str, Any]) -> None:
    assert set(schema["properties"]) == {*values, "global", "enabled"}


def leaves(value: Any, path: str = "") -> Iterator[str]:
    """Paths of what has no parts."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from leaves(part, f"{path}.{key}".lstrip("."))
    else:
        yield path


def part(values: Any, path: str) -> Any:
    return values if not path else part(values[path.partition(".")[0]], path.partition(".")[2])


def test_every_value_stands_in_the_readme_with_its_default_and_a_sentence(values: dict[str, Any]) -> None:
    readme = (DEPLOY / "helm/tfcluster/README.md").read_text("utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| (?:`(.*)`)? \| (\S.*\.) \|$", readme, re.MULTILINE)
    shown = {path for path, default, _ in rows if default and yaml.safe_load(default) == part(values, path)}
    assert {path for path, default, _ in rows if default} == shown
    assert [leaf for leaf in leaves(values) if not any(f"{leaf}.".startswith(f"{path}.") for path in shown)] == []


SPECS: list[tuple[dict[str, Any], bool]] = [
    (yaml.safe_load((ROOT / "examples/flights/job.yaml").read_text("utf-8")), True),
    (yaml.safe_load((ROOT / "examples/flights/ps.yaml").read_text("utf-8")), True),
    ({}, True),
    ({"keras": 2, "script": ["a.py", 1]}, True),
    ({"keras": "2"}, True),
    ({"keras": 4}, False),
    ({"data": {"train": {"files": "a", "filters": [["x", ">", 1]]}}}, True),
    ({"data": {"train": {"files": "a", "filters": [["x", "~", 1]]}}}, False),
    ({"data": {"train": {"files": "a", "filters": [["x", ">"]]}}}, False),
    ({"profile": {"steps": [1, 2]}}, True),
    ({"profile": {"steps": [1, "2"]}}, False),
    ({"roles": {"worker": 2, "ps": {"replicas": 1}}}, True),
    ({"roles": {"master": 1}}, False),
    ({"timeouts": {"hang": "1h30m"}}, True),
    ({"timeouts": {"hang": "soon"}}, False),
    ({"stratgy": "none"}, False),
]


@pytest.mark.parametrize(("document", "right"), SPECS)
def test_draft_07_says_what_the_newer_draft_says(schema: dict[str, Any], document: dict[str, Any], right: bool) -> None:
    ours = jsonschema.Draft7Validator({"$ref": "#/definitions/JobSpec", "definitions": schema["definitions"]})
    theirs = jsonschema.Draft202012Validator(json_schema())
    assert (ours.is_valid(document), theirs.is_valid(document)) == (right, right)
