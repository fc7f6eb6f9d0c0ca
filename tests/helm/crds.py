"""Schemas of custom resources as JSON Schema validators take them, and closed: a field they do not know is wrong."""

from __future__ import annotations

from typing import Any

#: What the API server allows beside a schema's own fields.
_TYPE = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """An openAPIV3Schema of a whole object, closed."""
    closed = _closed(schema)
    closed["properties"] |= {**_TYPE, "metadata": {"type": "object"}}
    closed["required"] = [*closed.get("required", ()), "apiVersion", "kind", "metadata"]
    return closed


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in schema.items() if not key.startswith("x-")}
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
        made.pop("anyOf", None)
    if made.pop("nullable", False) and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    if "items" in schema:
        made["items"] = _closed(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = _closed(schema["additionalProperties"])
    if "properties" in schema:
        made["properties"] = {name: _closed(part) for name, part in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    return made
