"""Subcommands such as ``runner plan``: a word before all overrides.

Those with a ``stage`` compose a configuration as ``runner`` alone does, with the stages set; the
others have verbs of their own.
"""

import importlib
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

from runner.errors import UsageError


@dataclass(frozen=True)
class Subcommand:
    """A word that may stand first on the command line."""

    name: str
    about: str
    """One line for ``runner --help``."""
    verbs: tuple[str, ...] = ()
    """What may follow it."""
    module: str | None = None
    """Where ``execute(arguments)`` is, which returns the exit code; ``None`` for a stage."""
    usage: str = ""
    """Of a stage: how it is called, for ``--help``."""
    section: tuple[str, str] | None = None
    """Of a stage: module and dataclass of the section of the configuration that it reads."""
    names: Callable[[list[str]], list[str]] | None = None
    """Of a stage: makes overrides of the names that follow the subcommand."""
    stages: tuple[str, ...] = ()
    """Of a stage: all that it goes through, where that is more than itself; the user may choose
    others instead."""
    on_request: tuple[str, ...] = ()
    """Stages that it goes through too where the user sets something of theirs."""

    def execute(self, arguments: Sequence[str]) -> int:
        """Carry out one that has verbs; returns the exit code."""
        assert self.module is not None
        code: int = importlib.import_module(self.module).execute(arguments)
        return code

    def help_text(self) -> str:
        """How a stage's subcommand is called, and the fields of its section."""
        assert self.section is not None
        from runner.config.field_docs import field_docs
        from runner.config.units import unit_of

        module, owner = self.section
        section = getattr(importlib.import_module(module), owner)
        about = field_docs(section)
        lines = [self.usage, "Fields"]
        for field in fields(section):
            default = field.default
            if field.default_factory is not MISSING:
                default = field.default_factory()
            lines.append(f"  {self.name}.{field.name}={_shown(default)}")
            text = about.get(field.name, "").replace("``", "")
            if (unit := unit_of(field.name)) is not None:
                text = f"{text} Such as {unit.example}."
            lines += textwrap.wrap(text, 80, initial_indent=_INDENT, subsequent_indent=_INDENT)
        return "\n".join([*lines, _EVERYWHERE.format(name=self.name)])


def read_subcommand(words: Sequence[str]) -> list[str]:
    """A command line's overrides without a subcommand: ``plan`` becomes ``stages=[plan]``.

    Args:
        words: The command line without its flags.

    Raises:
        UsageError: There is no such subcommand, it takes no names, or not so many, or the stages
            are set twice.
    """
    if words:
        _require_known(words[0])
    later = [word for word in words[1:] if word in SUBCOMMANDS]
    if later and words[0] not in SUBCOMMANDS:
        raise UsageError(f"a subcommand comes first: runner {later[0]} …")
    chosen = SUBCOMMANDS.get(words[0]) if words else None
    if chosen is None or chosen.section is None:
        return [*words]
    rest = words[1:]
    names = [word for word in rest if "=" not in word and not word.startswith("~")]
    overrides = [word for word in rest if word not in names]
    twice = [word for word in overrides if word.lstrip("+").startswith("stages=")]
    if twice and not chosen.stages:
        raise UsageError(
            f"runner {chosen.name} {twice[0]}: {chosen.name} sets the stages itself; leave out "
            "one of the two"
        )
    if names and chosen.names is None:
        raise UsageError(
            f"runner {chosen.name} takes overrides only, and {names[0]} is not of the form "
            f"group=option or group.field=value; see runner {chosen.name} --help"
        )
    made = chosen.names(names) if chosen.names is not None else []
    # What the user says of the same key stands.
    said = {word.lstrip("+").partition("=")[0] for word in overrides}
    asked = [one for one in chosen.on_request if any(key.split(".")[0] == one for key in said)]
    through = [*(chosen.stages or [chosen.name]), *asked]
    stages = [] if twice else [f"stages=[{','.join(through)}]"]
    return [*stages, *(one for one in made if one.partition("=")[0] not in said), *overrides]


def _require_known(word: str) -> None:
    """See that a first word which can only be a subcommand is one.

    Raises:
        UsageError: It is none.
    """
    if word in SUBCOMMANDS or not re.fullmatch(r"[A-Za-z][\w-]*", word):
        return
    from runner.config.errors import hint_for
    from runner.util.suggest import unknown

    if not hint_for(word):
        complaint = unknown(f"subcommand {word}", SUBCOMMANDS, word, "subcommands")
        raise UsageError(f"{complaint}; options are written group=option or group.field=value")


def _reported(sweeps: list[str]) -> list[str]:
    from runner.config.words import quoted

    if len(sweeps) > 1 or any("/" in sweep for sweep in sweeps):
        return [f"report.sweeps=[{','.join(map(quoted, sweeps))}]"]
    return [f"sweep={quoted(sweep)}" for sweep in sweeps]


def _compared(names: list[str]) -> list[str]:
    from runner.config.words import quoted

    if len(names) not in (0, 2):
        raise UsageError(
            f"runner compare takes two sweeps or runs, not {len(names)}: runner compare A B"
        )
    return [f"compare.{side}={quoted(name)}" for side, name in zip("ab", names, strict=False)]


def _gated(names: list[str]) -> list[str]:
    from runner.config.words import quoted

    if len(names) > 1:
        raise UsageError(
            f"runner gate takes one sweep or run, not {len(names)}: runner gate {names[0]} "
            f"gate.against={names[1]}"
        )
    return [f"gate.candidate={quoted(name)}" for name in names]


def _audited(names: list[str]) -> list[str]:
    from runner.cli.audited import overrides_of

    if len(names) not in (0, 2):
        raise UsageError(
            f"runner audit takes a base model and a quantized checkpoint, not {len(names)} names: "
            "runner audit BASE QUANTIZED"
        )
    return overrides_of(*names) if names else []


def _shown(default: Any) -> str:
    if isinstance(default, list):
        return f"[{','.join(map(_shown, default))}]"
    if default is None:
        return "null"
    return str(default).lower() if isinstance(default, bool) else str(default)


_INDENT = " " * 6
_EVERYWHERE = """
All other options apply as well: runner --help. Show the resolved configuration
without running anything: runner {name} --cfg job
"""
_PLAN = """\
Usage: runner plan [GROUP=OPTION | GROUP.FIELD=VALUE] ...

Predicts memory, time and cost of recipes for a model on devices, from the
model's dimensions and a table of devices. Needs no weights and no GPU.

Examples
  runner plan model=llama31_70b
  runner plan model=llama31_70b hardware=h100_sxm plan.tokens_per_day=1e7
  runner plan model=llama31_70b plan=serve_70b plan.rows=30

Groups that matter: model, hardware, engine, plan (runner --help GROUP).
"""
_REPORT = """\
Usage: runner report [SWEEP[/RUN] ...] [GROUP.FIELD=VALUE] ...

Prints the answer of a sweep again, from the store, and writes it as tables, a
page and figures. The latest sweep by default.

Examples
  runner report
  runner report my_sweep
  runner report first second/3             one answer over several sweeps
  runner report store.root=/data/store
"""
_COMPARE = """\
Usage: runner compare A B [GROUP.FIELD=VALUE] ...

Compares two sweeps, or two runs (SWEEP/RUN), from the store: settings,
software, quality and speed, whether a difference exceeds the noise, and what
became of the base model itself. Writes compare.json and compare.md.

Exit codes with a threshold (compare.max_kl=, …): 0 b is within all, 3 it is
beyond one, 4 that cannot be told yet.

Examples
  runner compare monday tuesday
  runner compare monday/3 tuesday/3
  runner compare released nightly compare.max_kl=0.02 compare.min_recovery=99%
"""
_GATE = """\
Usage: runner gate [SWEEP[/RUN]] [GROUP.FIELD=VALUE] ...

Tests whether finished runs may be released: whether each criterion is shown to
be met, against the unquantized model or a run that was released before. The
latest sweep by default. Writes gate.md for a pull request and gate.xml (JUnit).

Exit codes: 0 every criterion passes, 3 one fails, 4 one cannot be told yet.

Examples
  runner gate nightly/1 gate.min_recovery=99% gate.max_kl=0.05
  runner gate nightly gate.against=released gate.max_slowdown=5%
"""
_AUDIT = """\
Usage: runner audit BASE QUANTIZED [GROUP=OPTION | GROUP.FIELD=VALUE] ...

Measures a quantized checkpoint, published or your own, beside its base model:
what is in its files, quality, speed, and what would be better at its size.
Each is a directory, a GGUF file or a repository of the Hugging Face hub; BASE
may be an option of group model too. The engine is one that reads the
checkpoint, unless engine= says which.

Examples
  runner audit /models/mine /models/mine-awq
  runner audit meta-llama/Llama-3.1-8B org/Llama-3.1-8B-GPTQ tasks=standard
  runner audit smollm2_135m ./mine.gguf stages=[audit]     its files alone
"""
_SECTION = "runner.config.schema"
SUBCOMMANDS = {
    one.name: one
    for one in (
        Subcommand(
            "plan", "predict which recipe to serve on which device",
            usage=_PLAN, section=(f"{_SECTION}.plan", "Plan"),
        ),
        Subcommand(
            "report", "the answer of a sweep again, as table, page and figures",
            usage=_REPORT, section=(f"{_SECTION}.report", "Report"), names=_reported,
        ),
        Subcommand(
            "audit", "a quantized checkpoint beside its base model",
            usage=_AUDIT, section=(f"{_SECTION}.audit", "Audit"), names=_audited,
            stages=("audit", "eval", "bench"), on_request=("tasks",),
        ),
        Subcommand(
            "compare", "two sweeps or runs beside each other",
            usage=_COMPARE, section=(f"{_SECTION}.compare", "Compare"), names=_compared,
        ),
        Subcommand(
            "gate", "whether a finished run may be released: pass, fail or cannot tell",
            usage=_GATE, section=(f"{_SECTION}.gate", "Gate"), names=_gated,
        ),
        Subcommand(
            "export", "a checkpoint as a directory with a model card", module="runner.cli.export",
        ),
        Subcommand(
            "publish", "the same on the hub", module="runner.cli.publish",
        ),
        Subcommand(
            "env", "environments: list, create, check, remove",
            ("list", "create", "check", "remove"), "runner.cli.env",
        ),
        Subcommand(
            "store", "stored results: list, show, verify, prune",
            ("list", "show", "verify", "prune"), "runner.cli.store",
        ),
        Subcommand(
            "track", "W&B runs kept offline: list, sync",
            ("list", "sync"), "runner.cli.track",
        ),
    )
}  # fmt: skip
