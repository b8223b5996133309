"""report.html: one self-contained page that says what a run did, how well, and from what.

Nothing on the page is fetched: style, script, drawings and thumbnails are inside, and its own content security policy forbids anything else. Every text is
escaped by the template engine, so a class named `<script>` is a class named `<script>`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ftjax.files import write_text
from ftjax.reporting import data_map, distance, mistakes, plan_tables, sections, wording
from ftjax.reporting.record import Run, read_run

FILE = "report.html"
SECTIONS: Mapping[str, Callable[[Run], dict[str, Any]]] = {
    "header": sections.header,
    "headline": sections.headline,
    "training": sections.training,
    "distance": distance.distance,
    "mistakes": mistakes.mistakes,
    "data_map": data_map.section,
    "data": plan_tables.data,
    "coefficients": plan_tables.coefficients,
    "load": plan_tables.load,
    "settings": plan_tables.settings,
    "provenance": sections.provenance,
}


def _build(build: Callable[[Run], dict[str, Any]], run: Run) -> dict[str, Any]:
    """A section's values, or the sentence that stands in its place: a file with surprising content must not cost the reader the rest."""
    try:
        return build(run)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return {"broken": f"This part cannot be drawn, a file of the run holds something unexpected ({type(error).__name__}: {wording.printable(error)})."}


def _asset(name: str) -> Markup:
    """A file of templates/ that goes into the page as it is."""
    return Markup(resources.files("ftjax.reporting").joinpath("templates", name).read_text(encoding="utf-8"))


def _policy(script: str) -> str:
    """The page may show embedded images and run this one script; nothing else, from nowhere."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def page(run: Run) -> str:
    """The whole page; the same run gives the same bytes."""
    return fill("report.html.j2", **{name: _build(build, run) for name, build in SECTIONS.items()})


def fill(template: str, scripts: Sequence[str] = ("report.js",), /, **values: Any) -> str:
    """A page of templates/ with these values, the style of all pages and these scripts."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ftjax.reporting", "templates"), autoescape=True, undefined=jinja2.ChainableUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": wording.percent, "count": wording.count}
    script = Markup("\n").join(map(_asset, scripts))
    return environment.get_template(template).render(style=_asset("report.css"), script=script, policy=_policy(str(script)), **values)


def render(workdir: str | Path) -> Path:
    """Write `report.html` into a run directory, whatever state the run is in.

    Args:
      workdir: the run directory.

    Returns:
      The path of the page.

    Raises:
      CheckpointError: `workdir` is no directory or holds no file of a run.
      OSError: the page cannot be written; an older one is untouched.
    """
    path = Path(workdir) / FILE
    write_text(path, page(read_run(workdir)) + "\n")
    return path
