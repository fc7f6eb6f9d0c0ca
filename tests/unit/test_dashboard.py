"""The Grafana dashboard is one by Grafana's own schema, and asks for metrics that there are, in PromQL that parses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from cluster.prometheus import METRICS, run_label

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "ray-tfcluster.json"
DOCUMENT = json.loads(DASHBOARD.read_text(encoding="utf-8"))
QUERIES = [target["expr"] for panel in DOCUMENT["panels"] for target in panel["targets"]]
#: What Grafana may put into queries, the runs that are chosen and the time that is.
VARIABLES = {"$run": "flights", "$__range": "1h"}


def selectors(node: Any) -> list[Any]:
    """The vector selectors in a parsed query."""
    if isinstance(node, promql_parser.VectorSelector):
        return [node]
    if isinstance(node, promql_parser.MatrixSelector):
        return [node.vector_selector]
    children = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "args")]
    flat = [c for child in children if child is not None for c in (child if isinstance(child, list) else [child])]
    return [found for child in flat for found in selectors(child)]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_metrics_and_labels_that_there_are(query: str) -> None:
    filled = query
    for variable, value in VARIABLES.items():
        filled = filled.replace(variable, value)
    found = selectors(promql_parser.parse(filled))
    assert len(found) == query.count("ray_tfcluster_") > 0
    for selector in found:
        assert selector.name.startswith("ray_")
        labels = METRICS[selector.name.removeprefix("ray_")].labels
        assert {matcher.name for matcher in selector.matchers.matchers} <= set(labels)
    for grouping in re.findall(r"by \(([^)]*)\)", query):
        known = {label for metric in METRICS.values() for label in metric.labels}
        assert set(re.split(r"\s*,\s*", grouping)) <= known


def test_every_metric_is_on_the_dashboard() -> None:
    asked = set(re.findall(r"ray_(tfcluster_\w+)", " ".join(QUERIES)))
    assert asked == set(METRICS)


def test_a_run_can_be_chosen_before_it_has_reported_a_step() -> None:
    (variable,) = (one for one in DOCUMENT["templating"]["list"] if one["name"] == "run")
    assert variable["definition"] == variable["query"]["query"] == "label_values(ray_tfcluster_attempt, run)"


def test_each_query_of_the_table_has_a_column() -> None:
    (table,) = (panel for panel in DOCUMENT["panels"] if panel["type"] == "table")
    organize = table["transformations"][1]["options"]
    columns = ["run", *(f"Value #{target['refId']}" for target in table["targets"])]
    assert sorted(organize["renameByName"]) == sorted(organize["indexByName"]) == sorted(columns)
    shown = set(organize["renameByName"].values())
    assert {override["matcher"]["options"] for override in table["fieldConfig"]["overrides"]} <= shown


def test_grafana_knows_every_key() -> None:
    """Read into the types that Grafana generates from its schemas, those of panels and queries too, nothing is lost."""
    pytest.importorskip("grafana_foundation_sdk", reason="needs Python 3.11")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    back = json.loads(JSONEncoder().encode(Dashboard.from_json(DOCUMENT)))
    # Of a query's variable; Grafana writes and shows it, and its schema lacks it.
    assert [*lost(DOCUMENT, back)] == [".templating.list.1.definition"]


def lost(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Where `after` lacks something of `before`, or has something else."""
    if isinstance(before, dict | list) and type(before) is type(after):
        for key, part in before.items() if isinstance(before, dict) else enumerate(before):
            known = key in after if isinstance(after, dict) else key < len(after)
            yield from lost(part, after[key], f"{path}.{key}") if known else [f"{path}.{key}"]
    elif before != after:
        yield path


def test_the_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DOCUMENT["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DOCUMENT["panels"]}) == len(DOCUMENT["panels"])


@pytest.mark.parametrize("run_dir", ["/runs/flights-1", "s3://key:hush@bucket/runs/flights-1/", "flights-1"])
def test_a_run_is_labelled_by_its_name(run_dir: str) -> None:
    assert run_label(run_dir) == "flights-1"
