"""Servers: what a user gets over what a device gives, and how many users fit the objective."""

from typing import Any

from runner.reporting.capacity import served
from runner.reporting.page.serving_chart import serving_chart, serving_points
from runner.reporting.page.subject import Subject
from runner.reporting.serving import HEAD, UNSURE, left_out_lines, searched_parts

TITLE = "Serving"


def gather(subject: Subject) -> dict[str, Any] | None:
    """One point a server and concurrency, a table an objective, and what was not served."""
    found = served(subject.records)
    if found is None:
        return None
    tables = [{"title": title, "lines": lines} for title, lines in searched_parts(found)]
    unsure = any("~" in cell for table in tables for line in table["lines"] for cell in line)
    return {
        "head": HEAD,
        "tables": tables,
        "unsure": UNSURE if unsure else "",
        "left_out": left_out_lines(found),
        "points": serving_points(found),
        "spec": serving_chart(found),
    }
