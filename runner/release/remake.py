"""The command that makes a checkpoint again, from the resolved configuration of its run's record.

What was typed does not suffice: a sweep's file, a folder ``conf`` and environment variables have
their say too. So options are looked for that say what the record says, fields that still differ are
written out, and what was found is composed and compared with the record.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.choices import written
from runner.config.options import content, option_files
from runner.config.schema.bits import Bits
from runner.config.schema.group_size import GroupSize
from runner.config.words import shell_word
from runner.errors import UsageError
from runner.pipeline.stages.quantize import STAGE as QUANTIZE
from runner.store.records import RunRecord
from runner.util.redact import MASK
from runner.util.serialise import from_json, to_json

if TYPE_CHECKING:
    from runner.config.schema.root import Config

Compose = Callable[[Sequence[str]], "Config"]
"""Makes a configuration of overrides."""
_ALWAYS = ("model", "engine")
_BY_STAGE = {
    "quantize": ("method", "bits", "group_size", "calibration"),
    "bench": ("bench", "hardware"),
}
"""Sections that a stage reads, where there are others than the one of its name."""
_ORDER = (
    "model", "method", "bits", "group_size", "calibration", "engine", "hardware", "eval", "tasks",
    "bench", "serving", "sensitivity",
)  # fmt: skip
"""A method chooses bits and group size, so it comes before them."""
_SAID = ("model", "method", "bits", "group_size", "calibration", "engine")
_OPEN = "???"
_TEXT = "text"
_PLACES = ("path",)
"""Fields whose values are places of this machine."""
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=+-,@:")


@dataclass(frozen=True)
class Remake:
    """What remakes a checkpoint."""

    words: list[str]
    """Overrides, as the runner takes them."""
    unsaid: list[str] = field(default_factory=list)
    """Fields of the record that no override could be found for; empty where all is said."""

    @property
    def command(self) -> str:
        """For a shell. A path stands there as its last part: others have other folders."""
        return " ".join(["runner", *(_shell(_without_place(word)) for word in self.words)])

    @property
    def places(self) -> list[str]:
        """Fields whose values are files or folders that somebody else has to have."""
        return [word.split("=")[0] for word in self.words if _is_place(word)]


def remake(record: RunRecord, compose: Compose) -> Remake:
    """Overrides that make a run's checkpoint and measure it as it was.

    Args:
        record: The run's.
        compose: Makes a configuration of overrides.
    """
    told = record.config
    filed = {entry.stage for entry in record.stages}
    stages = [stage for stage in told["stages"] if stage in filed]
    read = {*_ALWAYS, *(name for stage in stages for name in _BY_STAGE.get(stage, (stage,)))}
    made = record.result(QUANTIZE)
    if made is None or not made.calibration_windows:
        read.discard("calibration")  # nothing was calibrated
    sections = [name for name in _ORDER if name in read and name in told]
    words = [f"stages={written(stages)}"]
    # Defaults are said too: another version may have others.
    for section in (one for one in sections if one in _SAID):
        for option in [*_candidates(section, told[section])][:1]:
            words += [f"{section}={option}", *_mandatory(section, option, told[section])]
    words += [
        _assigned(f"{section}.text.path", path, known=True)
        for section in sections
        if (path := (told[section].get("text") or {}).get("path")) is not None
    ]
    composed = to_json(compose(words))
    for section in sections:
        words, composed = _nearest(words, composed, section, told, compose)
        words, composed = _text(words, composed, section, told, compose)
    fields = [
        _assigned(key, value, known)
        for section in sections
        for key, value, known in _differences(told, composed, section)
    ]
    if not fields:
        return Remake(words)
    words = [*words, *fields]
    return Remake(words, _left(words, told, sections, compose))


def _nearest(
    words: list[str],
    composed: dict[str, Any],
    section: str,
    told: Mapping[str, Any],
    compose: Compose,
) -> tuple[list[str], dict[str, Any]]:
    """The words, with the option that leaves fewest fields of a section different.

    And the configuration that they make.
    """
    fewest = len([*_differences(told, composed, section)])
    found = words, composed
    for option in _candidates(section, told[section]) if fewest else ():
        tried = [word for word in words if not word.startswith(f"{section}=")]
        tried += [f"{section}={option}", *_mandatory(section, option, told[section])]
        try:
            made = to_json(compose(tried))
        except UsageError:  # an option that needs fields which are set later
            continue
        left = len([*_differences(told, made, section)])
        if left < fewest:
            fewest, found = left, (tried, made)
        if left == 0:
            break
    return found


def _text(
    words: list[str],
    composed: dict[str, Any],
    section: str,
    told: Mapping[str, Any],
    compose: Compose,
) -> tuple[list[str], dict[str, Any]]:
    """The words, with the option of the section's text where it is another; see ``_nearest``."""
    text = told[section].get("text")
    if not text or composed[section].get("text") == text or text["name"] not in option_files(_TEXT):
        return words, composed
    tried = [*words, f"{_TEXT}@{section}.{_TEXT}={text['name']}"]
    try:
        return tried, to_json(compose(tried))
    except UsageError:
        return words, composed


def _candidates(section: str, told: Mapping[str, Any]) -> Iterator[str]:
    """Options that may say what a section says."""
    files = option_files(section)
    if section == "bits":
        label = from_json(Bits, told).label
        yield from [label] if label in files else []
    elif section == "group_size":
        label = from_json(GroupSize, told).label
        yield from [label] if label in files else []
    elif "name" not in told:
        yield from sorted(files, key=lambda option: -_alike(files[option], told))
    else:
        if told["name"] in files:
            yield str(told["name"])
        inside = (option for option in files if option.endswith(f"/{told['name']}"))
        kind = told.get("kind")
        yield from [*inside, *([kind] if kind in files else [])]
        if section == "model":
            yield from _called(str(told["name"]), files)


def _alike(file: Path, told: Mapping[str, Any]) -> int:
    """How many fields of an option's file are what was told, less those that are not."""
    import yaml

    stated: Any = yaml.safe_load(file.read_text("utf-8"))
    fields = {key: value for key, value in (stated or {}).items() if key != "defaults"}
    return sum(1 if told.get(key) == value else -1 for key, value in fields.items())


def _called(name: str, files: Mapping[str, Path]) -> Iterator[str]:
    """Options whose file gives a name that is not the file's own."""
    for option in files:
        try:
            if option != name and content("model", option, dict(files)).get("name") == name:
                yield option
        except UsageError:
            continue


def _mandatory(section: str, option: str, told: Mapping[str, Any]) -> list[str]:
    """Fields that an option leaves open, without which it cannot be composed."""
    import yaml

    stated: Any = yaml.safe_load(option_files(section)[option].read_text("utf-8"))
    return [
        _assigned(f"{section}.{name}", told[name], known=True)
        for name, value in (stated or {}).items()
        if value == _OPEN and told.get(name) is not None
    ]


def _differences(
    told: Mapping[str, Any], composed: Mapping[str, Any], section: str
) -> Iterator[tuple[str, Any, bool]]:
    """Fields that differ: name, value in the record, and whether the configuration has it."""
    return _compared(section, told[section], composed.get(section))


def _compared(key: str, told: Any, composed: Any) -> Iterator[tuple[str, Any, bool]]:
    if isinstance(told, dict) and isinstance(composed, dict):
        for name, value in told.items():
            if name in composed:
                yield from _compared(f"{key}.{name}", value, composed[name])
            elif value is not None:
                yield f"{key}.{name}", value, False
    elif told != composed:
        yield key, told, True


def _assigned(key: str, value: Any, known: bool) -> str:
    return f"{'' if known else '+'}{key}={written(value)}"


def _left(
    words: list[str], told: Mapping[str, Any], sections: list[str], compose: Compose
) -> list[str]:
    """What the words do not say of the record."""
    masked = [word.split("=")[0] for word in words if MASK in word]
    try:
        composed = to_json(compose(words))
    except UsageError as error:
        return [*masked, str(error)]
    left = [key for one in sections for key, _, _ in _differences(told, composed, one)]
    return [*masked, *left]


def _is_place(word: str) -> bool:
    key, _, value = word.partition("=")
    return key.rpartition(".")[2] in _PLACES and value not in ("", "null")


def _without_place(word: str) -> str:
    if not _is_place(word):
        return word
    key, _, value = word.partition("=")
    return f"{key}={written(Path(value.strip(chr(39))).name)}"


def _shell(word: str) -> str:
    return word if _PLAIN.issuperset(word) else shell_word(word)
