"""Where files are, as text: what lies below a path or URI, and how to show one."""

from __future__ import annotations

import re


def join(uri: str, *names: str) -> str:
    """What lies below `uri`, a path or URI; the options of a URI, such as `?region=eu-1`, stay at its end."""
    path, mark, options = uri.partition("?") if "://" in uri else (uri, "", "")
    return f"{path}{'' if path.endswith('/') else '/'}{'/'.join(names)}{mark}{options}"


def shown(uri: str) -> str:
    """`uri` as a person may see it: without the password or key that pyarrow takes in `s3://key:secret@bucket`."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", uri)
