"""Sections of the page: one module each, in this order, where their data exists.

To add one: ``sections/<name>.py`` with ``TITLE`` and ``gather(subject)``, which gives the
content as JSON or ``None``; ``templates/sections/<name>.html``, which shows ``content``; where it
moves, ``templates/sections/<name>.js``, which finds it in ``report.sections.<name>``.
"""

import importlib
from dataclasses import dataclass
from typing import Any

from runner.reporting.page.subject import Subject

NAMES = (
    "answer", "claims", "tradeoffs", "serving", "table", "confidence", "written", "tasks",
    "capabilities", "generation", "sensitivity", "prediction", "problems",
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A section with something to show."""

    name: str
    title: str
    content: Any


def sections_of(subject: Subject) -> list[Section]:
    """The sections that this sweep has data for."""
    sections = []
    for name in NAMES:
        module = importlib.import_module(f"{__name__}.{name}")
        content = module.gather(subject)
        if content is not None:
            sections.append(Section(name, module.TITLE, content))
    return sections
