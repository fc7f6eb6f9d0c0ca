"""Renders the chart with a real Helm."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "tfcluster"

Values = Mapping[str, Any]
Document = dict[str, Any]


class Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, as it is to the API server."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def documents_of(text: str) -> list[Document]:
    """The objects in the manifests."""
    return [document for document in yaml.load_all(text, Loader) if document]


class RefusedError(Exception):
    """Helm's words about values that it does not render."""


@dataclass
class Helm:
    """One Helm binary; what it has rendered once is kept."""

    binary: str
    _rendered: dict[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Such as v3.17.3."""
        command = [self.binary, "version", "--template", "{{.Version}}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def run(self, *arguments: str, values: Values) -> str:
        """What `helm` with these arguments and values writes.

        Raises:
            RefusedError: it ended with an error.
        """
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values, file)
            file.flush()
            command = [self.binary, *arguments, "--values", file.name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RefusedError(done.stderr + done.stdout)
        return done.stdout

    def text(self, values: Values, release: str = "demo") -> str:
        """The manifests of a release, as text."""
        key = json.dumps([release, values])
        if key not in self._rendered:
            arguments = ("template", release, str(CHART), "--namespace", "ml")
            self._rendered[key] = self.run(*arguments, values=values)
        return self._rendered[key]

    def render(self, values: Values, release: str = "demo") -> list[Document]:
        """The manifests of a release."""
        return documents_of(self.text(values, release))

    def one(self, kind: str, values: Values, name: str | None = None) -> Document:
        """The one object of `kind`, and of this name."""
        kept = [d for d in self.render(values) if d["kind"] == kind and name in (None, d["metadata"]["name"])]
        assert len(kept) == 1, [(d["kind"], d["metadata"]["name"]) for d in self.render(values)]
        return kept[0]


def cluster_of(documents: list[Document]) -> Document:
    """The spec of the Ray cluster among them, whoever has it."""
    for document in documents:
        spec: Document = document["spec"] if document["kind"].startswith("Ray") else {}
        job: Document = spec.get("jobTemplate", spec)
        if document["kind"] == "RayCluster":
            return dict(spec)
        if "rayClusterSpec" in job:
            return dict(job["rayClusterSpec"])
    raise AssertionError("no Ray cluster is rendered")


def pod_templates(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Every Pod template among them, at whatever depth, and Pods; with the place they were found at."""

    def walk(place: str, value: Any) -> Iterator[tuple[str, Document]]:
        if isinstance(value, dict):
            if isinstance(value.get("containers"), list):
                yield place, value
            for key, part in value.items():
                yield from walk(f"{place}.{key}", part)
        elif isinstance(value, list):
            for index, part in enumerate(value):
                yield from walk(f"{place}[{index}]", part)

    for document in documents:
        yield from walk(document["kind"], document)
