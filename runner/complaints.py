"""Turns Hydra's and OmegaConf's errors into one line that names the mistake and the choices."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from runner.paths import option_files, sweeps_dirs

COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, ValueError, AssertionError)
"""What Hydra raises for a request that does not compose: a ``ValueError`` for ``bits=4``, an
``AssertionError`` for a field of a section that is null."""


def explain(error: BaseException, arguments: Sequence[str] = ()) -> str:
    """One line for an error of composition.

    Args:
        error: One of ``COMPOSITION_ERRORS``.
        arguments: The overrides that were given, for errors that do not name theirs.
    """
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(error, MissingConfigException):
        return _no_option(error)
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return _no_field(cause)
    if isinstance(cause, OmegaConfBaseException):
        return _no_value(cause, str(error).partition("Error merging override ")[2])
    return _no_sense(error, arguments)


def _no_sense(error: BaseException, arguments: Sequence[str]) -> str:
    """What Hydra itself objects to."""
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override} is not of the form group=option or group.field=value (quote "
            "values with spaces or brackets for the shell)"
        )
    if isinstance(error, AssertionError) and str(error).startswith("Unexpected type for root"):
        # Of all sections the text of a calibration alone may be null.
        own = [one for one in arguments if one.lstrip("+").startswith("calibration.text.")]
        named = own[0] if own else "a field of calibration.text"
        return (
            f"{named} has no effect: this calibration has no text of its own (calibration.text is "
            "null); choose one: calibration=local, and a method that looks at text"
        )
    if str(error).startswith("Ambiguous value for argument"):
        argument = str(error).split("'")[1]
        return f"{argument} is a sweep over several values: add -m; for a list write KEY=[A,B]"
    for argument in arguments if isinstance(error, ValueError) else ():
        group, _, option = argument.lstrip("+~").partition("=")
        names = list(option_files(group.partition("@")[0]))
        if option and names and option not in names:
            return _unknown(argument, names, option, f"options of {group}")
    return " ".join(str(error).split())


def _no_value(cause: OmegaConfBaseException, override: str) -> str:
    """A value of the wrong type, or one that cannot be resolved."""
    what = str(cause.msg or cause).partition("\n")[0]
    given = override or cause.full_key or ""
    if "is not a subclass of Text" in what:
        what = f"a text is chosen with text@{cause.full_key}=OPTION"
    return f"{given}: {what[:1].lower()}{what[1:]}" if given else what


def _no_option(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        names = ["config", *(name for folder in sweeps_dirs() for name in _names(folder))]
        return _unknown(f"-cn {option}", names, option, "ready configurations")
    if "/" in group and not group.startswith("hydra/"):
        group, _, folder = group.partition("/")
        option = f"{folder}/{option}"
    names = [*(error.options or []), *option_files(group)]
    return _unknown(f"{group}={option}", names, option, f"options of {group}")


def _no_field(error: BaseException) -> str:
    """An unknown key; OmegaConf keeps the node in which it was looked for."""
    full_key = str(getattr(error, "full_key", None) or getattr(error, "key", None) or error)
    node = getattr(error, "parent_node", None)
    names = [str(name) for name in node if name != "hydra"] if isinstance(node, DictConfig) else []
    parent, _, key = full_key.rpartition(".")
    return _unknown(full_key, names, key, f"fields of {parent}" if parent else "groups and fields")


def _unknown(what: str, names: Iterable[str], wrong: str, title: str) -> str:
    known = sorted(set(names))
    if not known:
        return f"there is no {what}"
    close = difflib.get_close_matches(wrong, known, n=1)
    guess = f"; did you mean {close[0]}?" if close else ""
    return f"there is no {what}{guess} ({title}: {', '.join(known)})"


def _names(folder: Path) -> list[str]:
    found = [*folder.glob("*.yaml"), *folder.glob("*/*.yaml")]
    return [path.relative_to(folder).with_suffix("").as_posix() for path in found]
