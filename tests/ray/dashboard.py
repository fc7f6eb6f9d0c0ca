"""A Prometheus of this machine that scrapes the session's Ray, asked what the panels of the Grafana dashboard ask."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DASHBOARD = json.loads((Path(__file__).parents[2] / "deploy/grafana/ray-tfcluster.json").read_text("utf-8"))
#: What stands in for Grafana's variables, but for the runs.
RANGE = {"$__range": "1h"}
_LISTENING = re.compile(r'Listening on".* address=(\S+)')
Labels = dict[str, str]


@dataclass
class Prometheus:
    """A server, by its URL."""

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer; an error of Prometheus is raised."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
            return json.load(answer)["data"]

    def runs(self) -> list[str]:
        """What the dashboard's variable `run` offers."""
        (variable,) = (one for one in DASHBOARD["templating"]["list"] if one["name"] == "run")
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
        assert found is not None
        names: list[str] = self.ask(f"label/{found[2]}/values", **{"match[]": found[1]})
        return names

    def panel(self, title: str, runs: str) -> dict[str, list[tuple[Labels, float]]]:
        """What a panel shows, by its queries' names: labels and value of each series.

        Args:
            title: the panel's, or its beginning.
            runs: a regular expression, which Grafana makes of the runs that are chosen.
        """
        (panel,) = (one for one in DASHBOARD["panels"] if one["title"].startswith(title))
        answers, now = {}, str(time.time())  # the same moment for all of them
        for target in panel["targets"]:
            query = target["expr"].replace("$run", runs)
            for variable, value in RANGE.items():
                query = query.replace(variable, value)
            series = self.ask("query", query=query, time=now)["result"]
            answers[target["refId"]] = [(one["metric"], float(one["value"][1])) for one in series]
            for labels, _ in answers[target["refId"]]:
                assert set(labels) >= set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
        return answers

    def table(self, runs: str) -> dict[str, dict[str, float]]:
        """The rows of the table of runs, by name, as the panel joins and names its columns."""
        (panel,) = (one for one in DASHBOARD["panels"] if one["type"] == "table")
        merge, organize = panel["transformations"]
        assert merge["id"] == "merge"
        names = organize["options"]["renameByName"]
        rows: dict[str, dict[str, float]] = {}
        for ref, series in self.panel(panel["title"], runs).items():
            for labels, value in series:
                assert set(labels) == {"run"}
                rows.setdefault(labels["run"], {})[names[f"Value #{ref}"]] = value
        return rows


@pytest.fixture
def prometheus(ray_address: str, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes all nodes of the session's Ray every five seconds."""
    import ray

    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("there is no Prometheus here: apt-get install prometheus")
    nodes = [node for node in ray.nodes() if node["Alive"]]
    targets = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in nodes]
    scrape = {"job_name": "ray", "scrape_interval": "5s", "scrape_timeout": "5s"}
    config = tmp_path / "prometheus.json"  # JSON is YAML
    config.write_text(json.dumps({"scrape_configs": [{**scrape, "static_configs": [{"targets": targets}]}]}))
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'prometheus'}"]
    server = subprocess.Popen([*command, "--web.listen-address=127.0.0.1:0"], stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        address = next((found[1] for line in server.stderr if (found := _LISTENING.search(line))), None)
        assert address is not None, "Prometheus did not start"
        drain = threading.Thread(target=server.stderr.read, name="prometheus-log")  # else it would wait for a reader
        drain.start()
        yield Prometheus(f"http://{address}")
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(30)
        server.kill()
        server.wait()
    drain.join()
    server.stderr.close()
