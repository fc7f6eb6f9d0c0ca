"""A certificate authority of our own, and what it signs; by the command openssl."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.e2e.errors import E2EError


@dataclass(frozen=True)
class Authority:
    """The certificate authority `ca.crt` and `ca.key` in a folder, beside the certificates that it signed."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Authority:
        """A new one, good for ten days."""
        folder.mkdir(parents=True, exist_ok=True)
        authority = cls(folder)
        _openssl("req", "-x509", *_NEW_KEY, "-keyout", folder / "ca.key", "-out", authority.certificate, "-subj",
                 "/CN=tfcluster-e2e", "-days", "10")  # fmt: skip
        return authority

    @property
    def certificate(self) -> Path:
        """What clients trust."""
        return self.folder / "ca.crt"

    def sign(self, name: str, user: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> tuple[Path, Path]:
        """Certificate and key for a user of Kubernetes in `groups`, or for a server under `hosts`."""
        certificate, key, request = (self.folder / f"{name}.{end}" for end in ("crt", "key", "csr"))
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        _openssl("req", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", subject)
        extensions = self.folder / f"{name}.ext"
        names = ",".join(f"{'IP' if host.replace('.', '').isdigit() else 'DNS'}:{host}" for host in hosts)
        extensions.write_text(
            "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=clientAuth,serverAuth\n"
            + (f"subjectAltName={names}\n" if names else "")
        )
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.folder / "ca.key",
                 "-CAcreateserial", "-out", certificate, "-days", "10", "-extfile", extensions)  # fmt: skip
        return certificate, key


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def private_key(path: Path) -> Path:
    """A new private key, which signs tokens of service accounts."""
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
    return path


def _openssl(*arguments: str | Path) -> None:
    command = ["openssl", *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise E2EError("there is no openssl · it makes the certificates · install the package openssl") from None
    if done.returncode:
        raise E2EError(f"openssl failed · {' '.join(command)}\n{done.stderr.strip()} · report this as a bug")
