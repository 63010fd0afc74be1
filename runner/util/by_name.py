"""Fields whose dataclass depends on a name in their content: methods, engines."""

from typing import Any

from runner.util.extensions import Kind, find
from runner.util.serialise import from_json


class ByName:
    """Annotates such a field: ``Annotated[Method, ByName(Kind.method)]``.

    It is read back as the dataclass of what is found under its ``name``, a plug-in's included.
    """

    def __init__(self, kind: Kind) -> None:
        """Look names up among extensions of a kind."""
        self._kind = kind

    def __get_pydantic_core_schema__(self, source: type, _: object) -> Any:
        """How ``from_json`` reads the field."""
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda content: content if isinstance(content, source) else self._read(content)
        )

    def _read(self, content: Any) -> Any:
        if not isinstance(content, dict) or not isinstance(content.get("name"), str):
            raise ValueError(f"the name of the {self._kind.name} is missing")
        return from_json(find(self._kind, content["name"]).load().config, content)
