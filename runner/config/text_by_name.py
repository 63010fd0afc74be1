"""Selects the texts of a mix by name, as Hydra's defaults list does for a single text."""

from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.config.errors import explain
from runner.config.names import register_resolvers
from runner.config.options import content, option_files
from runner.config.schema.text import Text, TextKind
from runner.errors import UsageError


def resolve_text(stated: Any) -> Text:
    """The text that a source of a mix names.

    Args:
        stated: Name of an option of group ``text``, or a mapping: the option that its ``name``
            names, with the other fields laid over it; a name that is no option stands for a
            text that the mapping describes in full.

    Raises:
        UsageError: There is no such option, a field is unknown or wrong, or a path is missing.
    """
    fields = {"name": stated} if isinstance(stated, str) else stated
    if not isinstance(fields, dict | DictConfig) or not isinstance(fields.get("name"), str):
        raise UsageError(
            "a source of calibration.sources needs text: NAME, or text: {name: NAME, …}"
        )
    name = fields["name"]
    options = option_files("text")
    if name not in options and len(fields) == 1:
        raise UsageError(
            f"there is no text {name} for calibration.sources (options of text: "
            f"{', '.join(sorted(options))})"
        )
    layers = []
    if name in options:
        layers = [content("text", name)]
        # Its own name may be read off the file that is laid over it.
        fields = {key: value for key, value in fields.items() if key != "name"}
    register_resolvers()
    try:
        merged: Any = OmegaConf.merge(OmegaConf.structured(Text), *layers, fields)
        if merged.kind is TextKind.file and not merged.get("path"):
            raise UsageError(
                f"text {name} of calibration.sources needs a path: {{name: {name}, path: …}}"
            )
        text: Any = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise UsageError(f"text {name} of calibration.sources: {explain(error)}") from None
    assert isinstance(text, Text)
    unread = text.unread()
    if idle := [key for key in fields if key in unread]:
        raise UsageError(
            f"text {name} of calibration.sources: {idle[0]} has no effect: it {unread[idle[0]]}"
        )
    return text
