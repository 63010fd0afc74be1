"""Assembles the page from its sections."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.reporting.page.data import encoded, packed_rows, packed_runs
from runner.reporting.page.library import chart_script
from runner.reporting.page.sections import sections_of
from runner.reporting.page.subject import GROUPS, Subject, used_device
from runner.util.serialise import to_json

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("page", "details", "filters")


def build_page(subject: Subject, cache: Path) -> str:
    """The page as HTML, self-contained.

    Strings of a run never become markup: Jinja escapes them, and scripts set them as text.
    """
    sections = sections_of(subject)
    scripts = [_TEMPLATES / f"{name}.js" for name in _SCRIPTS]
    scripts += [_TEMPLATES / "sections" / f"{section.name}.js" for section in sections]
    rows = subject.row_dicts()
    data = {
        "rows": packed_rows(rows),
        "groups": {k: v for k, v in GROUPS.items() if len({r.get(k) for r in rows}) > 1},
        "all_groups": GROUPS,
        "runs": packed_runs(subject.records),
        # Of the others everything stands in the page itself.
        "sections": {
            section.name: to_json(section.content)
            for section, script in zip(sections, scripts[len(_SCRIPTS) :], strict=True)
            if script.is_file()
        },
    }
    content, encoding = encoded(data)
    return (
        _environment()
        .get_template("page.html")
        .render(
            sections=sections,
            data=content,
            encoding=encoding,
            overview=_overview(subject),
            style=(_TEMPLATES / "page.css").read_text("utf-8"),
            library=chart_script(cache),
            scripts=[path.read_text("utf-8") for path in scripts if path.is_file()],
        )
    )


def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["megabytes"] = lambda value: f"{value / 1e6:,.1f} MB"
    environment.filters["percent"] = lambda value: f"{value * 100:+z.1f}%"
    return environment


def _overview(subject: Subject) -> dict[str, Any]:
    """What stands above everything: what ran, where, when, and how it ended."""
    records = subject.records
    statuses = Counter(record.status.value for record in records)
    hosts = {used_device(record) or "?" for record in records}
    return {
        "sweep": subject.sweep,
        "models": sorted({record.model for record in records}),
        "engines": sorted({record.engine for record in records}),
        "hosts": sorted(hosts),
        "statuses": dict(statuses.most_common()),
        "started": min(record.started for record in records),
        "hours": sum(record.seconds or 0 for record in records) / 3600,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": records[0].versions,
    }
