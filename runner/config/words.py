"""The arguments of a command line, parsed before Hydra parses them.

Hydra's grammar gives a meaning to commas, brackets, quotes, blanks and ``=``, and none to accents,
so that a path which the shell has passed as one word needs quotes within the quotes. Here a value
of a field that is a path or free text is put into them.
"""

import re
import shlex
from collections.abc import Iterator, Sequence

from runner.config.fields import is_text, is_text_list
from runner.config.renamed import present_overrides
from runner.errors import UsageError

_ASSIGNMENT = re.compile(r"(\+{0,2})([A-Za-z_$][\w$/@.:-]*)=(.*)", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z_/.][A-Za-z0-9_/.+\-]*")
"""Values that Hydra takes for the text that they are."""
_MEANS_MORE = {"null", "true", "false", "inf", "nan"}
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_MOST_DIGITS = 1000
_MOST_DEPTH = 20
_STRUCTURE = set(",[](){}'\"")


def quoted(text: object) -> str:
    """A text or a path as an override's value, in quotes of Hydra's: it is then taken as it is."""
    return "'" + re.sub(r"(\\*)('|\Z)", _escaped, str(text)) + "'"


def typed_as(key: str, value: str) -> str:
    """The word to type into a shell so that a field gets a value, whatever is in it."""
    return shell_word(f"{key}={quoted(value)}")


def shell_word(word: str) -> str:
    """A word as it is typed into a shell."""
    return f'"{word}"' if not set(word).intersection('"$`\\!') else shlex.quote(word)


def read_words(words: Sequence[str], *, sweep: bool) -> list[str]:
    """Overrides as Hydra's grammar has them.

    Args:
        words: What the shell passed, or a caller of ``run``.
        sweep: Commas part the choices of a sweep, as Hydra has it.

    Raises:
        UsageError: A word can be read in two ways, or a field is set under two names.
    """
    return [_read(word, sweep) for word in present_overrides(words)]


def as_typed(override: str) -> str:
    """An override without the quotes that a text was put into here."""
    match = _ASSIGNMENT.fullmatch(override)
    if match is None or not is_text(match[2]) or not re.fullmatch(r"'[^'\\]+'", match[3]):
        return override
    return f"{match[1]}{match[2]}={match[3][1:-1]}"


def settled(override: str) -> str:
    """An override in Hydra's grammar as it is typed where texts are taken as they are."""
    match = _ASSIGNMENT.fullmatch(override)
    if match is None or not is_text(match[2]) or _stands_for_itself(match[3]):
        return override
    from hydra.core.override_parser.overrides_parser import OverridesParser

    value = OverridesParser.create().parse_override(override).value()
    return f"{match[1]}{match[2]}={quoted(value)}" if isinstance(value, str) else override


def _read(word: str, sweep: bool) -> str:
    match = _ASSIGNMENT.fullmatch(word)
    if match is None or _stands_for_itself(match[3]):
        return word
    plus, key, value = match.groups()
    text = is_text(key)
    _require_size(key, value, text)
    as_text = f"{plus}{key}={quoted(value)}"
    if text and not sweep:
        return as_text
    if not text and value.isascii() and value.isalnum():
        return word  # a number, mostly
    if (choices := _hydra_reads(word)) is not None:
        return as_text if text and not choices else word
    if not _STRUCTURE.intersection(value) or (text and "," not in value):
        return as_text
    if text:
        several = ",".join(quoted(part) for part in _parts(value))
        raise UsageError(
            f"{key}={value} is ambiguous: write {typed_as(key, value)} for one, "
            f"{shell_word(f'{key}={several}')} for several"
        )
    return f"{plus}{key}={_list(value)}" if is_text_list(key) else word


def _require_size(key: str, value: str, text: bool) -> None:
    """See that reading a value ends: Hydra reads by recursion, and Python some digits alone."""
    if not text and re.search(rf"\d{{{_MOST_DIGITS}}}", value):
        raise UsageError(f"{key}=… has a number of more than {_MOST_DIGITS} digits")
    if value.count("${") > _MOST_DEPTH:
        raise UsageError(f"{key}=… has more than {_MOST_DEPTH} references ${{…}}")
    depth = 0
    for one in "" if text else value:
        depth += (one in "[{(") - (one in "]})")
        if depth > _MOST_DEPTH:
            raise UsageError(f"{key}=… has brackets more than {_MOST_DEPTH} deep")


def _stands_for_itself(value: str) -> bool:
    """Whether Hydra takes a value for the text that it is, or for what it says in its grammar."""
    plain = _PLAIN.fullmatch(value) is not None and value.lower() not in _MEANS_MORE
    is_quoted = _QUOTED.fullmatch(value) is not None or _is_reference(value)
    return plain or is_quoted or value in ("", "null")


def _list(value: str) -> str:
    """A list of texts that Hydra cannot read, each in quotes."""
    inside = [*_parts(value[1:-1])] if value[:1] == "[" and value[-1:] == "]" else [""]
    if all(part and not _STRUCTURE.intersection(part) for part in map(_bare, inside)):
        return f"[{','.join(map(_in_quotes, inside))}]"
    return value


def _hydra_reads(word: str) -> bool | None:
    """Whether Hydra finds several choices in a word; ``None`` if it can make nothing of it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return bool(OverridesParser.create().parse_override(word).is_sweep_override())
    except (HydraException, RecursionError):
        return None


def _parts(value: str) -> Iterator[str]:
    """What stands between the commas of a value, but for those in quotes."""
    part = ""
    for piece in re.findall(rf"{_QUOTED.pattern}|.", value, re.DOTALL):
        if piece == ",":
            yield part
            part = ""
        else:
            part += piece
    yield part


def _bare(part: str) -> str:
    part = part.strip()
    return "quoted" if _QUOTED.fullmatch(part) else part


def _in_quotes(part: str) -> str:
    part = part.strip()
    return part if _QUOTED.fullmatch(part) or _is_reference(part) else quoted(part)


def _is_reference(value: str) -> bool:
    """Whether it is ``${…}`` alone, which stands for what is found elsewhere."""
    return value.startswith("${") and value.endswith("}") and value.count("${") == 1


def _escaped(match: re.Match[str]) -> str:
    # Hydra takes off the backslashes before a quote, and no others.
    return match[1] * 2 + ("\\'" if match[2] else "")
