"""The tools: actions on objects, whose parameters are the object's."""

import random
from dataclasses import dataclass
from typing import Any

from runner.data.task_items.tool_calls.values import Kind


@dataclass(frozen=True)
class Parameter:
    """One of a tool."""

    name: str
    kind: Kind
    phrase: str
    """How a request gives it, the value in braces; a flag's for true and for false, with a bar."""
    choices: tuple[str, ...] = ()
    """Of kind ``choice``."""
    optional: bool = False
    """Whether a call may leave it out."""

    @property
    def json_type(self) -> dict[str, Any]:
        """Its JSON schema."""
        return _TYPES[self.kind] | ({"enum": list(self.choices)} if self.choices else {})

    @property
    def short_type(self) -> str:
        """As a signature has it."""
        if self.choices:
            return " | ".join(f'"{choice}"' for choice in self.choices)
        if self.kind is Kind.names:
            return "string[]"
        shape = self.json_type.get("format")
        return f"{self.json_type['type']} {shape}" if shape else str(self.json_type["type"])


@dataclass(frozen=True)
class Tool:
    """An action on an object."""

    action: str
    thing: str
    parameters: tuple[Parameter, ...]

    @property
    def name(self) -> str:
        """What a call names it by."""
        return f"{self.action}_{self.thing}"

    def signature(self) -> str:
        """Such as ``create_alarm(label: string, volume?: integer)``."""
        parameters = (
            f"{parameter.name}{'?' if parameter.optional else ''}: {parameter.short_type}"
            for parameter in self.parameters
        )
        return f"{self.name}({', '.join(parameters)})"

    def schema(self) -> dict[str, Any]:
        """As OpenAI's interface and most chat templates have it."""
        return {
            "name": self.name,
            "parameters": {
                "type": "object",
                "properties": {each.name: each.json_type for each in self.parameters},
                "required": [each.name for each in self.parameters if not each.optional],
            },
        }


ACTIONS: dict[str, tuple[str, ...]] = {
    "create": ("Set up", "Make", "Add"),
    "cancel": ("Call off", "Drop", "Abandon"),
    "change": ("Modify", "Adjust", "Alter"),
    "find": ("Look up", "Search for", "Locate"),
    "copy": ("Duplicate", "Clone", "Make another one of"),
    "print": ("Put on paper", "Make a hard copy of", "Give me a paper version of"),
}
"""Actions, and how a request may call each in other words."""

_TYPES: dict[Kind, dict[str, Any]] = {
    Kind.label: {"type": "string"},
    Kind.person: {"type": "string"},
    Kind.city: {"type": "string"},
    Kind.date: {"type": "string", "format": "YYYY-MM-DD"},
    Kind.time: {"type": "string", "format": "HH:MM"},
    Kind.count: {"type": "integer"},
    Kind.amount: {"type": "number"},
    Kind.flag: {"type": "boolean"},
    Kind.choice: {"type": "string"},
    Kind.names: {"type": "array", "items": {"type": "string"}},
}

_DATE = Parameter("date", Kind.date, "on {}")
_TIME = Parameter("time", Kind.time, "at {}")
_CITY = Parameter("city", Kind.city, "in {}")
_PERSON = Parameter("person", Kind.person, "for {}")
_LABEL = Parameter("label", Kind.label, "labelled {}")
_GUESTS = Parameter("guests", Kind.names, "together with {}")
_PRICE = Parameter("price", Kind.amount, "at a price of {}")
_URGENT = Parameter("urgent", Kind.flag, "which is urgent|which is not urgent")


def _choice(name: str, phrase: str, *choices: str) -> Parameter:
    return Parameter(name, Kind.choice, phrase, choices)


OBJECTS: dict[str, tuple[Parameter, ...]] = {
    "reservation": (
        _PERSON, _DATE, _TIME, _CITY, _GUESTS, _PRICE,
        Parameter("seats", Kind.count, "with {} seats"),
        Parameter("outside", Kind.flag, "out in the open|not out in the open"),
        _choice("table", "at a {} table", "round", "square", "long"),
    ),
    "flight": (
        _PERSON, _DATE, _TIME, _GUESTS, _PRICE,
        Parameter("origin", Kind.city, "leaving from {}"),
        Parameter("bags", Kind.count, "with {} bags"),
        Parameter("refundable", Kind.flag, "that is refundable|that is not refundable"),
        _choice("cabin", "in the {} cabin", "economy", "business", "first"),
    ),
    "meeting": (
        _LABEL, _PERSON, _DATE, _TIME, _CITY, _GUESTS, _URGENT, _PRICE,
        Parameter("minutes", Kind.count, "lasting {} minutes"),
        _choice("room", "in the {} room", "small", "large", "quiet"),
    ),
    "alarm": (
        _LABEL, _DATE, _TIME, _PERSON, _GUESTS,
        Parameter("volume", Kind.count, "at volume {}"),
        Parameter("pitch", Kind.amount, "with a pitch of {}"),
        Parameter("repeat", Kind.flag, "that repeats|that does not repeat"),
        _choice("sound", "with the sound of a {}", "bell", "horn", "bird"),
    ),
    "order": (
        _PERSON, _DATE, _TIME, _CITY, _PRICE, _URGENT, _GUESTS,
        Parameter("pieces", Kind.count, "of {} pieces"),
        _choice("size", "in size {}", "small", "medium", "large"),
    ),
    "parcel": (
        _PERSON, _CITY, _DATE, _TIME, _URGENT, _GUESTS,
        Parameter("weight", Kind.amount, "weighing {} kilograms"),
        Parameter("stamps", Kind.count, "with {} stamps"),
        _choice("carrier", "carried by {}", "bike", "van", "train"),
    ),
    "invoice": (
        _PERSON, _DATE, _LABEL, _CITY, _GUESTS, _PRICE,
        Parameter("pages", Kind.count, "of {} pages"),
        Parameter("paid", Kind.flag, "that is paid|that is not paid"),
        _choice("currency", "in {}", "euros", "dollars", "yen"),
    ),
    "task": (
        _LABEL, _PERSON, _DATE, _TIME, _URGENT, _GUESTS,
        Parameter("hours", Kind.amount, "taking {} hours"),
        Parameter("points", Kind.count, "worth {} points"),
        _choice("status", "with status {}", "open", "waiting", "done"),
    ),
    "ticket": (
        _PERSON, _CITY, _DATE, _TIME, _PRICE, _GUESTS,
        Parameter("row", Kind.count, "in row {}"),
        Parameter("reduced", Kind.flag, "with a reduction|without a reduction"),
        _choice("show", "to the {}", "opera", "circus", "museum"),
    ),
    "ride": (
        _PERSON, _CITY, _DATE, _TIME, _PRICE, _GUESTS,
        Parameter("stops", Kind.count, "with {} stops"),
        Parameter("shared", Kind.flag, "that is shared|that is not shared"),
        _choice("vehicle", "by {}", "car", "boat", "tram"),
    ),
}  # fmt: skip
"""What tools act on, and the parameters that they may have."""


def draw_parameters(
    thing: str, given: int, optional: int, kinds: frozenset[Kind], chosen: random.Random
) -> tuple[Parameter, ...]:
    """Parameters of an object's tools, in an order that is drawn.

    Args:
        thing: The object.
        given: How many a request is to give.
        optional: How many more there are, which may be left out.
        kinds: Those to draw from.
        chosen: Draws them.
    """
    fitting = [parameter for parameter in OBJECTS[thing] if parameter.kind in kinds]
    drawn = chosen.sample(fitting, given + optional)
    return tuple(
        Parameter(each.name, each.kind, each.phrase, each.choices, optional=number >= given)
        for number, each in sorted(enumerate(drawn), key=lambda pair: pair[1].name)
    )
