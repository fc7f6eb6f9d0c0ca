"""Where files are, as text: what lies below a path or URI, and how to show one."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

#: Folders that all machines see alike, with `:` between them. Whoever makes Pods knows it; from within it is not seen.
SHARED_VARIABLE = "TFCLUSTER_SHARED_FOLDERS"


def join(uri: str, *names: str) -> str:
    """What lies below `uri`, a path or URI; the options of a URI, such as `?region=eu-1`, stay at its end."""
    path, mark, options = uri.partition("?") if "://" in uri else (uri, "", "")
    return f"{path}{'' if path.endswith('/') else '/'}{'/'.join(names)}{mark}{options}"


def lies_within(uri: str, folders: Iterable[str]) -> bool:
    """Whether a path, or a URI of `file`, is one of the absolute `folders` or lies below it."""
    path = f"{posixpath.normpath(uri.removeprefix('file://'))}/"
    return any(path.startswith(f"{posixpath.normpath(folder).rstrip('/')}/") for folder in folders if folder)


#: The password in `scheme://user:password@host`, also one whose `/` was not written as %2F; a port's number is none.
_PASSWORD = re.compile(r"(://[^/@:\s]*):(?!\d*/)([^@\s]*)@")
#: Options of a URI that are passwords: a client's on Azure, a signature.
_SECRET_OPTION = re.compile(r"([?&](?:client_secret|sig)=)([^&\s]*)")


def shown(text: str) -> str:
    """A URI, or a text that holds URIs, as others may see it: without the secret of `s3://key:secret@bucket`."""
    return _SECRET_OPTION.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text)) if "://" in text else text


def passwords(text: str) -> list[str]:
    """What `shown` hides of `text`."""
    return [found[2] for pattern in (_PASSWORD, _SECRET_OPTION) for found in pattern.finditer(text)]
