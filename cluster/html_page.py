"""Fills the templates of our pages: what a run tells is shown as text, and only our own style and script are let in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.units import format_duration, format_size

TEMPLATES = Path(__file__).parent / "templates"
#: Our script in every page.
_SCRIPT = "report.js"


def fill(template: str, view: Mapping[str, Any], *, styles: Sequence[str], **pictures: Iterable[str]) -> str:
    """The page that a template makes of `view`, as HTML.

    Args:
        template: its file in `templates`.
        view: what it shows, whatever that holds, as text.
        styles: our own files of style, in their order.
        pictures: SVG that whoever drew it has made safe, see `cluster.chart`.
    """
    import jinja2
    from markupsafe import Markup

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"duration": format_duration, "size": format_size, "step_time": step_time}
    script = (TEMPLATES / _SCRIPT).read_text()
    known = hashlib.sha256(script.encode()).digest()
    return environment.get_template(template).render(
        view,
        style=Markup("".join((TEMPLATES / style).read_text() for style in styles)),
        script=Markup(script),
        script_hash=base64.b64encode(known).decode(),
        **{name: [Markup(svg) for svg in drawn] for name, drawn in pictures.items()},
    )


def step_time(seconds: float | None) -> str:
    """A step's time in milliseconds."""
    return "" if seconds is None else f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
