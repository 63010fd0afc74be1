"""``runner --help``: groups and options, read from the configuration folders without Hydra."""

import textwrap

from runner.cli.subcommands import SUBCOMMANDS
from runner.config import options
from runner.errors import UsageError
from runner.util.suggest import unknown

_INTRODUCTION = """\
runner measures LLM quantization trade-offs: it quantizes a model, measures
quality and speed against the unquantized model, and says which recipe to serve.

Usage
  runner [GROUP=OPTION | GROUP.FIELD=VALUE] ...    an experiment
  runner SUBCOMMAND ...

Subcommands; runner SUBCOMMAND --help describes one
"""
_EXAMPLES = """\
Examples
  runner                                       a first look: 16, 8 and 4 bits
  runner method=rtn bits=w3a16 group_size=g32  another recipe
  runner -m method=none,rtn bits=w8a16,w4a16   a sweep over combinations
  runner -cn first_look                        a ready-made sweep from sweeps/
  runner stages=[eval,bench] model=local model.path=/models/mine
  runner plan model=llama31_70b                predict hardware and cost
  runner report                                the report of the latest sweep
  runner --cfg job                             print the resolved configuration
  runner --help GROUP                          describe the options of a group
  eval "$(runner -sc install=bash)"            tab completion

Config groups (select with GROUP=OPTION)
"""
_FOOTER = """\
Set single fields with GROUP.FIELD=VALUE, such as method.sym=false,
bench.batch_sizes=[1,4,16] or store.root=/data/store. List: runner --cfg job.
Other settings
  stages=[quantize,eval,bench]    stages to run; also tasks, sensitivity,
                                  serving
  force=[quantize]                stages to recompute
  sweep=NAME                      name of the sweep; repeat it to resume
  dry_run=true                    print the planned runs without executing them
  hydra/launcher=submitit_slurm   where runs execute: basic, joblib,
                                  submitit_local, submitit_slurm
  launch.on_failure=stop_after_3  on failed runs: continue, stop, stop_after_N
Hydra's own flags: runner --hydra-help; version: runner --version
"""
_WIDTH = 80
_PLACES = {"text": "eval.text", "task": "tasks.own"}
"""Where groups are found that are chosen for a place: ``text@eval.text=bible``."""


def help_text(group: str | None = None, width: int | None = None) -> str:
    """The help page, or the described options of one config group.

    Args:
        group: A folder of ``conf/``.
        width: Columns to break a group's descriptions at; one line each by default.

    Raises:
        UsageError: There is no such group.
    """
    groups = {name: _described_options(name) for name in options.groups(own=False)}
    if group is not None and group not in groups:
        raise UsageError(unknown(f"config group {group}", groups, group, "groups"))
    if group is not None:
        return _described(group, groups[group], width)
    listed = [_wrapped(name, sorted(described)) for name, described in groups.items()]
    sweeps = _wrapped("-cn", sorted(options.ready_configurations()))
    commands = "".join(f"  {one.name:<12} {one.about}\n" for one in SUBCOMMANDS.values())
    return (
        f"{_INTRODUCTION}{commands}\n{_EXAMPLES}{''.join(listed)}Ready sweeps\n{sweeps}\n{_FOOTER}"
    )


def _described_options(group: str) -> dict[str, str]:
    return {name: options.about(path) for name, path in options.option_files(group).items()}


def _described(group: str, described: dict[str, str], width: int | None) -> str:
    indent = 4 + max(map(len, described))
    lines = []
    for name, about in described.items():
        line = f"  {name:<{indent - 4}}  {about}"
        broken = textwrap.wrap(line, width, subsequent_indent=" " * indent) if width else [line]
        lines += broken
    place = _PLACES.get(group, group)
    chosen = f"{group}=…" if place == group else f"{group}@{place}=…"
    shown = "tasks=packaged " if group == "task" else ""
    fields = f"Fields and their values: runner --cfg job {shown}-p {place}"
    return "\n".join([chosen, *lines, fields]) + "\n"


def _wrapped(name: str, options: list[str]) -> str:
    lines = textwrap.wrap(", ".join(options), width=_WIDTH - 15)
    return f"  {name:<12} " + ("\n" + " " * 15).join(lines) + "\n"
