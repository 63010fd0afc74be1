"""Turns Hydra's and OmegaConf's errors into one line that names the mistake and the choices."""

import re
from collections.abc import Sequence

from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import OmegaConfBaseException

from runner.config.field_errors import explain_field
from runner.config.fields import is_text, wanted
from runner.config.options import groups, option_files, own_file, ready_configurations
from runner.config.words import typed_as
from runner.errors import UsageError
from runner.util.suggest import unknown
from runner.util.yaml_files import line_of

COMPOSITION_ERRORS = (
    HydraException, OmegaConfBaseException, ValueError, TypeError, AssertionError, RuntimeError,
    UserWarning, OverflowError,
)  # fmt: skip
"""What Hydra raises for a request that does not compose: a ``ValueError`` for ``bits=4``, a
``TypeError`` for a ``hydra.sweeper.grids`` that is a text, an ``AssertionError`` for a field of a
section that is null, an ``OverflowError`` for a whole number that no fraction holds, and a
``RecursionError`` for brackets within brackets."""
_LONGEST_WORD = 300
"""Characters of a word of a message: of a longer one the beginning and the end are told."""
_PLACES = {
    "text": "text@eval.text, text@calibration.text or text@sensitivity.text",
    "task": "+task@tasks.own.NAME",
}
"""Where options of groups go that are chosen for a place."""


def explain(error: BaseException, arguments: Sequence[str] = ()) -> str:
    """One line for an error of composition.

    Args:
        error: One of ``COMPOSITION_ERRORS``.
        arguments: The overrides that were given, for errors that do not name theirs.
    """
    text = str(error)
    under = error.__cause__ or error.__context__
    cause = error if isinstance(error, OmegaConfBaseException) else under
    if isinstance(error, InstantiationException) and isinstance(under, UsageError):
        message = str(under)
    elif isinstance(error, UserWarning):
        path = text.partition("path=")[2].removesuffix(" is not available.")
        message = f"hydra.searchpath: {path} is no folder (file:///PATH)"
    elif isinstance(error, MissingConfigException):
        message = _no_option(error)
    elif isinstance(error, OverrideParseException):
        message = _no_override(str(error.override))
    elif not isinstance(cause, OmegaConfBaseException):
        message = _no_sense(error, text, arguments)
    elif merged := re.match(r"In '(?P<config>[^']*)': \w+ raised while composing config", text):
        message = explain_field(cause, *_origin(merged["config"], cause, arguments), arguments)
    else:
        override = text.partition("Error merging override ")[2] or _of_key(text, arguments)
        message = explain_field(cause, override, None, arguments)
    return re.sub(rf"\S{{{_LONGEST_WORD},}}", _shortened, message)


def _shortened(word: re.Match[str]) -> str:
    return f"{word[0][:120]}…{word[0][-60:]}"


def _of_key(text: str, arguments: Sequence[str]) -> str:
    """The override that an error knows by its key alone."""
    named = re.match(r"Could not override '(.*?)'", text)
    return next((one for one in arguments if named and one.startswith(f"{named[1]}=")), "")


def _no_override(word: str) -> str:
    """A word that Hydra's grammar cannot read."""
    key, sign, value = word.partition("=")
    name = key.lstrip("+~")
    if not sign or not name or not re.fullmatch(r"[\w$/@.:-]+", name):
        shown = word if word.strip() else repr(word)
        return f"{shown} is not of the form group=option or group.field=value{hint_for(word)}"
    group = name.partition("@")[0]
    if not re.fullmatch(r"[\w$/-]+([.@][\w$/-]+)*", name):
        return f"{word}: {name} is not the name of a group or field"
    if options := option_files(group):
        return unknown(word, options, value, f"options of {group}")
    if (has_to_be := wanted(name)) is not None and not is_text(name):
        return f"{word} must be {has_to_be}"
    return f"{word}: {_no_grammar(value)}; if it is one string, write {typed_as(key, value)}"


def _no_grammar(value: str) -> str:
    for opened, closed in ("[]", "{}", "()"):
        if value.count(opened) != value.count(closed):
            return f"{opened} and {closed} do not come in pairs"
    if value.count("'") % 2 or value.count('"') % 2:
        return "a quote is not closed"
    if "${" in value:
        return "a ${ without a reference"
    if value.endswith(",") or value.startswith(",") or ",," in value:
        return "a value is missing between two commas"
    return "Hydra's grammar cannot parse the value"


def hint_for(word: str) -> str:
    """How a word that stands alone is written in full; empty if it is not known."""
    if word == "help":
        return "; did you mean --help?"
    for group in groups():
        if word == group:
            return f"; choose an option: {word}=OPTION (runner --help {word})"
        if word in option_files(group):
            place = {"text": "text@eval.text", "task": "+task@tasks.own.NAME"}.get(group, group)
            return f"; did you mean {place}={word}?"
    return ""


def _no_sense(error: BaseException, said: str, arguments: Sequence[str]) -> str:
    """What Hydra itself objects to."""
    if isinstance(error, AssertionError) and said.startswith("Unexpected type for root"):
        # Of all sections the text of a calibration alone may be null.
        own = [one for one in arguments if one.lstrip("+").startswith("calibration.text.")]
        named = own[0] if own else "a field of calibration.text"
        return (
            f"{named} has no effect: this calibration has no text of its own (calibration.text is "
            "null); choose one: calibration=local, and a method that looks at text"
        )
    for argument in arguments if isinstance(error, ValueError) else ():
        group, _, option = argument.lstrip("+~").partition("=")
        names = list(option_files(group.partition("@")[0]))
        if option and names and option not in names:
            return unknown(argument, names, option, f"options of {group}")
    for pattern, tell in (
        (r"Ambiguous value for argument '(.*?)'\n", _sweep),
        (r"Sweep parameters '(.*)' requires --multirun", _sweep),
        (r"Could not override '(.*)'\.", _no_group),
        (r"Override .* but config group '(.*)' does not exist", _no_group),
        (r"Config group override must be a string or a list\. Got (.*)", _no_name),
        (r"Invalid plugin '(.*)': not the hydra_plugins", _no_plugin),
        (r"(.*) appears more than once in the final defaults list", _chosen_already),
        (r"You must specify '(.*)', e\.g", _no_choice),
        (r"Could not delete '(.*)'\. No match", _no_deletion),
        (r"Could not delete from config\. '(.*)' does not exist", _no_deletion),
        (r"Could not delete from config\. The value of '(.*)' is", _no_deletion),
        (r"force-add of config groups is not supported: '(.*)'", _added_twice),
        (r"Multiple values for (.*)\. To override", _chosen_already),
        (r"(list indices) must be integers", _no_entry),
        (r"Sweeping over Hydra's configuration is not supported : '(.*)'", _hydras),
    ):
        if (match := re.match(rf"(?:In '(?P<config>.*?)': )?{pattern}", said, re.DOTALL)) is None:
            continue
        place = own_file(match["config"]) if match["config"] else None
        if place is not None and tell is _no_group:
            return f"{place}: its override of {match[2]} has no earlier choice to override"
        return (f"{place}: " if place else "") + tell(match[2], arguments)
    match = re.match(r"In '?([^':]*)'?: (.*)", said, re.DOTALL)
    if match is not None and (file := own_file(match[1])) is not None:
        return f"{file}: {_line(match[2])}"
    return _line(said) or type(error).__name__


def _line(text: str) -> str:
    """A message of several lines in one, without the addresses of Hydra's pages."""
    lines = [one for one in text.splitlines() if "https://" not in one and "http://" not in one]
    return " ".join(" ".join(lines or text.splitlines()).split())


def _sweep(word: str, arguments: Sequence[str]) -> str:
    return f"{word} has several values: add -m for a sweep, or write KEY=[A,B] for a list"


def _no_name(kind: str, arguments: Sequence[str]) -> str:
    return (
        f"an option of a group is a name, and one here is of type {kind}: quote it, as in "
        "\"bits='4'\""
    )


def _no_plugin(target: str, arguments: Sequence[str]) -> str:
    return f"{target} is not a launcher or sweeper: _target_ must name one of package hydra_plugins"


def _no_choice(key: str, arguments: Sequence[str]) -> str:
    listed = ", ".join(option_files(key.partition("@")[0]))
    return f"{key} has no option: add {key}=OPTION (options: {listed})"


def _hydras(word: str, arguments: Sequence[str]) -> str:
    return f"{word}: a sweep has one choice of each of Hydra's own settings"


def _added_twice(word: str, arguments: Sequence[str]) -> str:
    return f"{word}: an option is chosen without ++: {word.lstrip('+')}"


def _chosen_already(key: str, arguments: Sequence[str]) -> str:
    words = [one for one in arguments if one.startswith(f"+{key}=")]
    if words:
        return f"{words[0]}: {key} has an option already: {words[0].lstrip('+')} chooses another"
    return f"{key} is chosen twice; in a defaults list write override /{key}: OPTION"


def _no_deletion(key: str, arguments: Sequence[str]) -> str:
    word = next((one for one in arguments if one.lstrip("~").startswith(key) and key), f"~{key}")
    return f"{word}: there is no {key or 'name'} to remove"


def _no_entry(_: str, arguments: Sequence[str]) -> str:
    word = next((one for one in arguments if one.startswith("~")), "~")
    return f"{word}: an entry of a list cannot be removed; set the list to what is to be in it"


def _no_group(key: str, arguments: Sequence[str]) -> str:
    """An option of something that is no group, or none that is chosen in that way."""
    word = next((one for one in arguments if one.startswith(f"{key}=")), f"{key}=…")
    group, option = key.partition("@")[0], word.partition("=")[2]
    first, _, folder = group.partition("/")
    names = groups()
    if not key:
        message = f"{word}: there is no name before the ="
    elif group in _PLACES:
        message = f"{word}: an option of {group} is chosen for a place: {_PLACES[group]}"
    elif "@" in key and (option_files(group) or group.startswith("hydra/")):
        message = f"{word}: {group} has one place: {group}={option}"
    elif folder and f"{folder}/{option}" in option_files(first):
        message = f"{word}: that is {first}={folder}/{option}"
    elif group in names:
        message = f"{word}: the configuration has no {group}: its defaults begin with config"
    else:
        message = unknown(group, names, first, "groups")
    return message


def _no_option(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    parent = re.match(r"In '([^']*)': ", str(error))
    file = own_file(parent[1]) if parent is not None else None
    before = ""
    if file is not None:
        line = line_of(file, "defaults")
        before = f"{file}, line {line}: " if line else f"{file}: "
    if not group or "Cannot find primary config" in str(error):
        option = error.missing_cfg_file or ""
        names = ["config", *ready_configurations()]
        shown = f"-cn {option}" if file is None else option
        return before + unknown(shown, names, option, "ready configurations")
    if "/" in group and not group.startswith("hydra/"):
        group, _, folder = group.partition("/")
        option = f"{folder}/{option}"
    names = [*(error.options or []), *option_files(group)]
    if not names:
        return before + unknown(f"group {group}", groups(), group, "groups")
    return before + unknown(f"{group}={option}", names, option, f"options of {group}")


def _origin(
    config: str, cause: OmegaConfBaseException, arguments: Sequence[str]
) -> tuple[str, str | None]:
    """The word that chose a configuration, and the file and line of what is wrong in it."""
    group, _, option = config.partition("/")
    chosen = [one for one in arguments if re.match(rf"\+?{re.escape(group)}(@[^=]*)?=", one)]
    chosen = [one for one in chosen if one.partition("=")[2] == option]
    file = own_file(config)
    if file is None:
        return (chosen[0] if chosen else ""), None
    full_key = str(cause.full_key or cause.key or "")
    line = line_of(file, full_key) if full_key else None
    return "", f"{file}, line {line}" if line else str(file)
