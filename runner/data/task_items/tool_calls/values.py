"""Values of arguments, and the words that say them."""

import datetime
import random
from collections.abc import Callable
from enum import Enum
from typing import Any

from runner.data.task_items.choose import enumerated


class Kind(Enum):
    """What a parameter takes."""

    label = "label"
    person = "person"
    city = "city"
    date = "date"
    """A string such as ``2026-03-14``."""
    time = "time"
    """A string such as ``18:30``."""
    count = "count"
    """An integer."""
    amount = "amount"
    """A number with a fraction."""
    flag = "flag"
    choice = "choice"
    """One of the parameter's own strings."""
    names = "names"
    """An array of strings."""


Said = tuple[Any, str]
"""A value, and how the request says it."""

_LABELS = (
    "Amber", "Bamboo", "Cedar", "Delta", "Ember", "Falcon", "Granite", "Horizon", "Indigo",
    "Jasmine", "Lagoon", "Maple", "Nectar", "Orchid", "Pepper", "Quartz", "Raven", "Saffron",
    "Tundra", "Velvet", "Willow", "Zephyr",
)  # fmt: skip
_PEOPLE = (
    "Ada", "Boris", "Carmen", "Dmitri", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kofi",
    "Lena", "Mateo", "Nadia", "Omar", "Priya", "Quentin", "Rosa", "Sven", "Tara", "Umberto",
    "Vera", "Wanda", "Yusuf", "Zoe",
)  # fmt: skip
_CITIES = (
    "Athens", "Bergen", "Cairo", "Dublin", "Essen", "Florence", "Geneva", "Hanoi", "Izmir",
    "Jakarta", "Kyoto", "Lima", "Madrid", "Nairobi", "Oslo", "Porto", "Quito", "Riga", "Seoul",
    "Tunis", "Utrecht", "Vienna", "Warsaw", "York", "Zagreb",
)  # fmt: skip
_ONES = """
one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen
"""
_NUMBERS = tuple(_ONES.split())
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip


def say(kind: Kind, written: int, chosen: random.Random) -> Said:
    """A value of a kind, but of ``flag`` and ``choice``.

    Args:
        kind: What it is.
        written: 0 as it is, 1 in words, 2 to be worked out.
        chosen: Draws it.
    """
    return _SAY[kind](written, chosen)


def in_words(number: int) -> str:
    """A number from 1 to 99."""
    if number < 20:
        return _NUMBERS[number - 1]
    tens = _TENS[number // 10 - 2]
    return tens if number % 10 == 0 else f"{tens}-{_NUMBERS[number % 10 - 1]}"


def _text(pool: tuple[str, ...]) -> Callable[[int, random.Random], Said]:
    def say_text(written: int, chosen: random.Random) -> Said:
        text = chosen.choice(pool)
        if written < 2:
            return text, text
        return text[::-1].lower(), f"{text} (spelt backwards in small letters)"

    return say_text


def _date(written: int, chosen: random.Random) -> Said:
    day = datetime.date(2026, 1, 1) + datetime.timedelta(days=chosen.randrange(1500))
    spelt = f"{day.day} {_MONTHS[day.month - 1]} {day.year}"
    if written == 0:
        return day.isoformat(), day.isoformat()
    if written == 1:
        return day.isoformat(), spelt
    days = chosen.randint(70, 400)
    return (day + datetime.timedelta(days=days)).isoformat(), f"the date {days} days after {spelt}"


def _time(written: int, chosen: random.Random) -> Said:
    hour, minute = chosen.randrange(24), chosen.choice((0, 15, 30, 45))
    twelve = f"{hour % 12 or 12}:{minute:02d} {'am' if hour < 12 else 'pm'}"
    if written == 0:
        return f"{hour:02d}:{minute:02d}", f"{hour:02d}:{minute:02d}"
    if written == 1:
        return f"{hour:02d}:{minute:02d}", twelve
    later = chosen.randint(100, 900)
    end = (60 * hour + minute + later) % (24 * 60)
    return f"{end // 60:02d}:{end % 60:02d}", f"the time {later} minutes after {twelve}"


def _count(written: int, chosen: random.Random) -> Said:
    number = chosen.randint(2, 99)
    if written == 0:
        return number, str(number)
    if written == 1:
        return number, in_words(number)
    factor, further = chosen.randint(23, 89), chosen.randint(101, 999)
    return number * factor + further, f"{number} times {factor} plus {further}"


def _amount(written: int, chosen: random.Random) -> Said:
    hundredths = chosen.randint(101, 9999)
    number = hundredths / 100
    if written == 0:
        return number, f"{number}"
    if written == 1:
        return number, f"{hundredths // 100} point {' '.join(_digits(hundredths % 100))}"
    other = chosen.randint(1000, 9999)
    return hundredths * other / 10_000, f"{number} times {other / 100}"


def _digits(hundredths: int) -> list[str]:
    """The digits after the point, without a zero at the end."""
    digits = f"{hundredths:02d}"
    digits = digits[0] + digits[1].rstrip("0")
    return ["zero" if digit == "0" else _NUMBERS[int(digit) - 1] for digit in digits]


def _names(written: int, chosen: random.Random) -> Said:
    names = chosen.sample(_PEOPLE, (2, 3, 9)[written])
    if written < 2:
        return names, enumerated(names)
    ordered = sorted(names, key=lambda name: name[::-1])
    return ordered, f"{enumerated(names)} (sorted by their last letters, then the ones before)"


_SAY: dict[Kind, Callable[[int, random.Random], Said]] = {
    Kind.label: _text(_LABELS),
    Kind.person: _text(_PEOPLE),
    Kind.city: _text(_CITIES),
    Kind.date: _date,
    Kind.time: _time,
    Kind.count: _count,
    Kind.amount: _amount,
    Kind.names: _names,
}
