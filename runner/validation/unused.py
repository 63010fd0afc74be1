"""Settings without effect: set by the user, but not read by what was chosen.

``eval.text.path=mine.txt`` while the text is Wikipedia would score Wikipedia. What is read is asked
of what was chosen (``unread`` of its configuration); here is only what depends on several sections.
Settings of stages that are left out are fine: one command line goes through its stages in turns.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from runner.config.options import content, option_files
from runner.config.schema.decide import GOAL_MEASURED_BY, MEASURED_BY
from runner.config.schema.eval import EvalDtype
from runner.config.schema.model import ModelKind
from runner.config.schema.root import Config, StageName
from runner.config.schema.text import Text, TextKind, TextReader
from runner.config.schema.tracker import Tracker, TrackerMode
from runner.engines import find_engine
from runner.errors import UsageError
from runner.methods import all_methods, used_recipe, without_rounding_dtype
from runner.methods.base import QuantizationMethod
from runner.methods.recipe import Recipe
from runner.planning.hardware.detect import Machine
from runner.util.extensions import Kind, find, names
from runner.util.given import shown
from runner.validation.kv_cache import KV_STAGES
from runner.validation.unread import Unread, unread_fields
from runner.validation.unread_tasks import unread_of_tasks
from runner.validation.verdict import Severity, Verdict, illegal, warning

_MOST_NAMED = 3
_MEASURING = frozenset(
    {StageName.quantize, StageName.eval, StageName.tasks, StageName.bench, StageName.serving}
)


def settings_of(overrides: Sequence[str]) -> dict[str, str]:
    """Fields that overrides set, and the values; choices of options are no such fields."""
    settings = {}
    for override in overrides:
        key, sign, value = override.lstrip("+").partition("=")
        is_field = "." in key and not {"@", "/", "~"}.intersection(key)
        if sign and is_field and not key.startswith("hydra."):
            settings[key] = value
    return settings


def unused(
    config: Config, overrides: Sequence[str], machine: Machine | None = None
) -> dict[str, Verdict]:
    """The settings among the overrides that have no effect, each with what is wrong about it.

    Args:
        config: What was composed.
        overrides: As they were typed, or as the sweep's file has them.
        machine: This one, where it has been looked at.
    """
    from runner.planning.compute import resolve_compute
    from runner.planning.hardware.detect import detect

    findings: dict[str, Verdict] = {}
    settings = settings_of(overrides)
    if not settings:
        return findings
    unread = list(_unread(config, resolve_compute(config.engine, machine or detect()).device))
    for key, value in settings.items():
        one = next((one for one in unread if one.covers(key)), None)
        if one is not None:
            judged = warning if one.harmless else illegal
            findings[key] = judged(f"{key}={shown(value)} has no effect: {one.why}", one.nearest())
    return findings


def refuse_unused(config: Config, overrides: Sequence[str]) -> list[str]:
    """See that everything that was set is read; returns what is to be told of the rest.

    Raises:
        UsageError: Something is not.
    """
    findings = unused(config, overrides).values()
    if wrong := [str(verdict) for verdict in findings if verdict.severity is Severity.illegal]:
        raise UsageError("; ".join(wrong))
    return [str(verdict) for verdict in findings]


class Effects:
    """Which settings of a sweep have an effect on one of its jobs at least."""

    def __init__(self) -> None:
        """Know of no job."""
        self._read: set[str] = set()
        self._unused: dict[str, Verdict] = {}
        self._machine: Machine | None = None

    def unclear(self, job: Sequence[str]) -> bool:
        """Whether a job may tell something new of its settings."""
        return not self._read.issuperset(settings_of(job))

    def note(self, job: Sequence[str], config: Config | None) -> None:
        """Look at a job; without its configuration all of its settings count as read."""
        from runner.planning.hardware.detect import detect

        # A sweep's jobs are many, and looking takes a millisecond.
        self._machine = self._machine or detect()
        unread = {} if config is None else unused(config, job, self._machine)
        # What is only told of is settled by the first job that has it.
        settled = {key for key, one in unread.items() if one.severity is not Severity.illegal}
        self._read.update(key for key in settings_of(job) if key not in unread or key in settled)
        for key, verdict in unread.items():
            self._unused.setdefault(key, verdict)

    def refuse(self) -> None:
        """See that every setting that was noted has an effect somewhere.

        Raises:
            UsageError: One has none, in whatever job.
        """
        wrong = [
            str(verdict)
            for key, verdict in self._unused.items()
            if key not in self._read and verdict.severity is Severity.illegal
        ]
        if wrong:
            raise UsageError("; ".join(wrong))


def _unread(config: Config, device: str) -> Iterator[Unread]:
    if StageName.compare not in config.stages:
        yield Unread("compare", "stages has no compare", lambda: "runner compare")
    yield Unread("release", "only runner export and runner publish read it")
    if StageName.gate not in config.stages:
        yield Unread("gate", "stages has no gate", lambda: "runner gate")
    yield from _decide(config)
    if StageName.audit not in config.stages:
        yield Unread("audit", "stages has no audit", lambda: "runner audit BASE QUANTIZED")
    yield from unread_fields("model", config.model.unread(), _models)
    yield from _calibration(config)
    yield from _text("eval.text", config.eval.text)
    yield from _text("sensitivity.text", config.sensitivity.text)
    yield from unread_fields("eval", config.eval.unread(), _protocols)
    yield from unread_fields("serving", config.serving.unread())
    yield from unread_fields("bits", config.bits.unread())
    yield from unread_fields("method", config.method.unread())
    yield from _types(config)
    if not config.bits.quantizes_activations:
        yield Unread("method.activation_scales", "bits rounds no activations", lambda: "bits=w8a8")
    yield from unread_fields("engine", config.engine.unread(device))
    yield from unread_fields("kv_cache", config.kv_cache.unread(), lambda _: "kv_cache=int8")
    if not {*KV_STAGES}.intersection(config.stages):
        asked = f"stages=[{','.join([*config.stages, StageName.eval])}]"
        yield Unread("kv_cache", "no stage computes with a KV cache", lambda: asked)
    yield from unread_fields("tracker", unread_by_tracker(config.tracker))
    yield from unread_of_tasks(config)


def _decide(config: Config) -> Iterator[Unread]:
    """Limits and goals of the answer that none of the stages measures anything for."""
    if not _MEASURING.intersection(config.stages):
        if config.stages == [StageName.plan]:
            yield Unread("decide", "a plan measures nothing", lambda: "plan.min_recovery_percent")
        return  # reports read what was measured before
    needed: dict[str, tuple[str, ...]] = dict(MEASURED_BY)
    if config.decide.goal is not None:
        needed["goal"] = GOAL_MEASURED_BY.get(config.decide.goal, tuple(_MEASURING))
    for name, stages in needed.items():
        asked = f"stages=[{','.join([*config.stages, stages[0]])}]"
        if not set(stages).intersection(config.stages):
            why = f"stages has no {' or '.join(stages)}"
            yield Unread(f"decide.{name}", why, functools.partial(str, asked))
        elif stages == (StageName.tasks,) and not config.tasks.names:
            yield Unread(f"decide.{name}", "tasks.names is empty", lambda: "tasks=packaged")


def _types(config: Config) -> Iterator[Unread]:
    """Types of arithmetic where something else decides it."""
    if StageName.quantize in config.stages and StageName.sensitivity not in config.stages:
        with contextlib.suppress(UsageError):  # another rule speaks about an unknown method
            if why := without_rounding_dtype(used_recipe(config)):
                yield Unread("method.rounding_dtype", f"method={config.method.name} {why}")
    traits = find_engine(config.engine.name).traits
    own, asked = traits.own_arithmetic, config.eval.dtype
    if own is not None and asked not in (EvalDtype.auto, EvalDtype.engine):
        yield Unread("eval.dtype", own.how, lambda: "eval.dtype=auto")
    if own is not None and not any(one.is_of_any_engine for one in config.eval.floor):
        yield Unread("eval.floor", own.how)


def _calibration(config: Config) -> Iterator[Unread]:
    if StageName.quantize in config.stages and used_recipe(config).calibration is None:
        why = f"method={config.method.name} with these settings needs no calibration text"

        def readers() -> str | None:
            able = [
                name for name, one in all_methods().items() if _looks_at_text(name, one, config)
            ]
            return " or ".join(f"method={name}" for name in able) or None

        # Methods are compared with one command line.
        yield Unread("calibration", why, readers, harmless=True)
        return
    yield from unread_fields("calibration", config.calibration.unread())
    if config.calibration.text is not None:
        yield from _text("calibration.text", config.calibration.text)


def _looks_at_text(name: str, method: QuantizationMethod, config: Config) -> bool:
    recipe = Recipe(method.config(name=name), config.bits, config.group_size, config.calibration)
    return method.calibration_for(recipe) is not None


def _text(place: str, text: Text) -> Iterator[Unread]:
    def nearest(field: str) -> str | None:
        if any(field in kind.fields for kind in TextKind):
            option = _options("text", lambda content: field in TextKind(content["kind"]).fields)
            return " or ".join(f"text@{place}={name}" for name in option) or None
        readers = [
            reader.value
            for reader in TextReader
            if field in reader.fields and reader.value != "auto"
        ]
        return " or ".join(f"{place}.reader={name}" for name in readers)

    yield from unread_fields(place, text.unread(), nearest)


def _protocols(field: str) -> str | None:
    return "eval.protocols=[spread]" if field == "bos" else None


def _models(field: str) -> str | None:
    named = _options("model", lambda content: field in ModelKind(content["kind"]).fields)
    return " or ".join(f"model={name}" for name in named) or None


def _options(group: str, reads: Any) -> list[str]:
    """Options that read a field: first those that are made for setting it, a few at most."""
    options: list[tuple[bool, str]] = []
    files = option_files(group)
    for name in files:
        stated = content(group, name, files)
        if "kind" in stated and reads(stated):
            options.append(("???" not in stated.values(), name))
    meant = [name for is_fixed, name in sorted(options) if not is_fixed]
    return (meant or [name for _, name in sorted(options)])[:_MOST_NAMED]


def unread_by_tracker(config: Tracker) -> dict[str, str]:
    """Fields that have no effect on a tracker, each with the reason."""
    every = {field.name for field in fields(Tracker)} - {"name"}
    if config.name not in names(Kind.tracker):
        return {}
    reads = find(Kind.tracker, config.name).load().reads
    unread = {
        name: f"is {config.name}, which does not read {name}"
        for name in sorted(every - (every if reads is None else reads))
    }
    if config.mode is TrackerMode.offline:
        unread.setdefault("registry", "is offline: a link is made with tracker.mode=online")
    return unread
