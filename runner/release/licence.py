"""The licence of a checkpoint: that of the model it was made from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FENCE = "---"


@dataclass(frozen=True)
class Licence:
    """What a model card says of it."""

    id: str | None
    """As the hub names licences; ``None``: nobody has said."""
    name: str | None = None
    link: str | None = None


def licence_of(stated: str | None, base: Path | None) -> Licence:
    """The licence that was stated, or that the README of the base model states.

    Args:
        stated: In the configuration.
        base: Directory of the base model.
    """
    if stated is not None:
        return Licence(stated)
    told = _front_matter(base / "README.md") if base is not None else {}
    known = {key: told.get(key) for key in ("license", "license_name", "license_link")}
    one, name, link = (value if isinstance(value, str) else None for value in known.values())
    return Licence(one, name, link)


def _front_matter(readme: Path) -> dict[str, Any]:
    """The YAML between the first two fences of a model card."""
    import yaml

    try:
        first, *lines = readme.read_text("utf-8", "replace").splitlines()
        if first.strip() != _FENCE:
            return {}
        block = lines[: [line.strip() for line in lines].index(_FENCE)]
        content = yaml.safe_load("\n".join(block))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
