"""Files by which clients find an API server and say who they are."""

from __future__ import annotations

import json
from pathlib import Path


def write(path: Path, server: str, ca: Path, certificate: tuple[Path, Path], namespace: str = "default") -> Path:
    """A kubeconfig (JSON is YAML) with one context; certificates are named by their paths."""
    user = {"client-certificate": str(certificate[0]), "client-key": str(certificate[1])}
    context = {"cluster": "e2e", "user": "e2e", "namespace": namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "e2e", "cluster": {"server": server, "certificate-authority": str(ca)}}],
        "users": [{"name": "e2e", "user": user}],
        "contexts": [{"name": "e2e", "context": context}],
        "current-context": "e2e",
    }
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    path.chmod(0o600)
    return path
