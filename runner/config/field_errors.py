"""Errors about a field or its value: what is wrong, and what is expected."""

import re
from collections.abc import Sequence

from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    GrammarParseError,
    InterpolationKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from runner.config.fields import members, wanted
from runner.config.renamed import MOVED
from runner.config.words import as_typed, shell_word
from runner.util.suggest import nearest, unknown

_REFERENCES = (
    InterpolationResolutionError, InterpolationKeyError, UnsupportedInterpolationType,
    GrammarParseError,
)  # fmt: skip


def explain_field(
    cause: OmegaConfBaseException, given: str, place: str | None, arguments: Sequence[str]
) -> str:
    """One line for OmegaConf's error about a field.

    Args:
        cause: The error.
        given: The override that is wrong, if it is known.
        place: File and line that are, if they are.
        arguments: All overrides.
    """
    before = f"{place}: " if place else ""
    key = _key(cause, given)
    if isinstance(cause, _REFERENCES):
        return before + _no_reference(cause, given, key, arguments)
    what = str(cause.msg or cause).partition("\n")[0]
    if "does not support deletion" in what:
        return f"{given}: a field cannot be removed; set it to another value"
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return before + _no_field(cause, given)
    if "dict is not a subclass" in what and str(cause.full_key).endswith("]"):
        return f"{given}: there is no {cause.full_key} yet; set the whole list"
    shown = given or key
    return before + _no_value(shown, key, given.partition("=")[2], what)


def _key(cause: OmegaConfBaseException, given: str) -> str:
    """The field that an error is about, as ``schema`` knows it."""
    key = str(cause.full_key or "")
    if given:
        key = given.partition("=")[0].lstrip("+~")
    return re.sub(r"\[(\d+)\]", r".\1", key)


def _no_value(shown: str, key: str, value: str, what: str) -> str:
    """A value of the wrong type."""
    if "is not a subclass of Text" in what or key.endswith("calibration.text"):
        return f"{shown}: a text is chosen with text@{key}=OPTION"
    if (two := re.match(r"Merge error: (\w+) is not a subclass of (\w+)", what)) is not None:
        return f"{shown or 'two options'}: {two[2]} and {two[1]} have different fields; choose one"
    text = re.search(r"[Vv]alue '(.*?)'|Invalid value '(.*?)'", what)
    bad = (text[1] or text[2] or "") if text is not None else value
    has_to_be = wanted(key)
    parent = key.rpartition(".")[0]
    if has_to_be is None and wanted(parent) is not None:
        return f"{shown}: {parent} has no fields; it must be {wanted(parent)}"
    if has_to_be is None:
        return f"{shown}: {what[:1].lower()}{what[1:]}" if shown else what
    known = members(key)
    if known and (value.startswith("[") or not has_to_be.startswith("a list")):
        listed = ", ".join(known)
        guess = nearest(bad, known)
        meant = f"; did you mean {guess}?" if guess is not None else ""
        what_is = "[]" if bad == "" else bad
        return f"{shown}: {what_is!r} is not known, expected one of [{listed}]{meant}"
    return f"{shown} must be {has_to_be}"


def _no_field(error: OmegaConfBaseException, given: str) -> str:
    """An unknown key; OmegaConf keeps the node in which it was looked for."""
    full_key = str(error.full_key or error.key or error)
    node = error.parent_node
    names = [str(name) for name in node if name != "hydra"] if isinstance(node, DictConfig) else []
    if (group := MOVED.get(full_key)) is not None:
        return f"{full_key} is now a config group: {group}=OPTION (runner --help {group})"
    parent, _, key = full_key.rpartition(".")
    inside = given.partition("=")[0].lstrip("+")
    if not parent and inside not in ("", key) and "@" not in inside:
        # Within a list of sections OmegaConf does not tell where.
        return f"{given}: {unknown(key, names, key, f'fields in {inside}')}"
    if parent and isinstance(node, DictConfig) and _is_open(node) and not nearest(key, names):
        return f"there is no {full_key} yet; add it with +{full_key}"
    return unknown(full_key, names, key, f"fields of {parent}" if parent else "groups and fields")


def _is_open(node: DictConfig) -> bool:
    """Whether it is a mapping that may have any name."""
    return node._metadata.object_type is dict and node._metadata.key_type is str


def _no_reference(
    cause: OmegaConfBaseException, given: str, key: str, arguments: Sequence[str]
) -> str:
    """A ``${…}`` that leads nowhere. What uses it may be named by the error: the word is not."""
    words = [one for one in arguments if "${" in one]
    word = as_typed(given or (words[0] if len(words) == 1 else ""))
    what = str(cause.msg or cause).partition("\n")[0]
    if (match := re.search(r"Environment variable '(.*?)' not found", what)) is not None:
        why = f"the environment variable {match[1]} is not set"
    elif (match := re.search(r"Interpolation key '(.*?)' not found", what)) is not None:
        why = f"'{match[1]}' not found, so ${{{match[1]}}} refers to nothing"
    elif "ecursive" in what:
        why = "it refers to itself"
    elif (match := re.search(r"Unsupported interpolation type (.*)", what)) is not None:
        why = f"there is no ${{{match[1]}:…}}"
    else:
        why = f"a ${{…}} that cannot be resolved ({' '.join(what.split())})"
    if "=" not in word:
        key = "" if key == "_dummy_" else key  # Hydra's, for an entry of a defaults list
        return f"{key or 'the configuration'}: {why}"
    literal = shell_word(re.sub(r"(?<!\\)\$\{", r"\${", word))
    return f"{word}: {why}; if it is text, type {literal}"
