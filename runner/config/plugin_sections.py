"""The configuration's root, extended by the sections that plug-ins' stages declare."""

import functools
from dataclasses import field, make_dataclass
from typing import Any

from runner.config.schema.root import Config
from runner.errors import UsageError
from runner.util.extensions import Kind, extensions


def root_type() -> type[Config]:
    """``Config``, or a subclass of it that knows plug-ins' sections too.

    Raises:
        UsageError: A plug-in's section has the name of one of ours.
    """
    sections: list[tuple[str, Any]] = []
    for name, one in extensions(Kind.stage).items():
        if one.is_builtin:
            continue
        try:
            section = one.load().section
        except UsageError:
            continue  # whoever asks for that stage is told why it cannot be loaded
        if section is not None and hasattr(Config(), name):
            raise UsageError(
                f"stage {name} ({one.origin}) would have section {name} of the configuration, "
                "which is taken; rename the stage"
            )
        if section is not None:
            sections.append((name, section))
    return _root_type(tuple(sections)) if sections else Config


@functools.lru_cache(maxsize=64)
def _root_type(sections: tuple[tuple[str, Any], ...]) -> type[Config]:
    added = [(name, kind, field(default_factory=kind)) for name, kind in sections]
    return make_dataclass("Config", added, bases=(Config,))
