"""``runner --help``: what can be said, read from the configuration folders without Hydra."""

import textwrap
from pathlib import Path

from runner.errors import UsageError
from runner.util.paths import conf_dir, option_files, sweeps_dirs
from runner.util.suggest import unknown

_INTRODUCTION = """\
runner measures LLM quantization trade-offs: it quantizes a model, measures
quality and speed against the unquantized model, and says which recipe to serve.

Usage
  runner                                       the default experiment
  runner method=rtn bits=w3a16 group_size=g32  another recipe
  runner -m method=none,rtn bits=w8a16,w4a16   a sweep over combinations
  runner -cn first_look                        a ready sweep out of sweeps/
  runner stages=[eval,bench] model=local model.path=/models/mine
  runner stages=[plan] model=llama31_70b       predict what to serve it on
  runner stages=[report]                       the last answer, from the store
  runner stages=[compare] compare.a=SWEEP compare.b=SWEEP
  runner env list                              also create, check, remove
  runner store list                            what is kept; show, verify, prune
  runner track sync                            send what W&B keeps offline
  runner --cfg job                             what would be run, resolved
  runner --help GROUP                          the options of a group, described
  eval "$(runner -sc install=bash)"            tab completion

Config groups: choose with GROUP=OPTION
"""
_FOOTER = """\
Single fields: GROUP.FIELD=VALUE, such as method.sym=false,
bench.batch_sizes=[1,4,16] or store.root=/data/store. All: runner --cfg job.
Other settings
  stages=[quantize,eval,bench]    steps to go through; also tasks, sensitivity,
                                  serving, plan, report, compare
  force=[quantize]                steps to redo although their result is there
  sweep=NAME                      what results are filed under; again: resumes
  dry_run=true                    what each run would be, without doing it
  hydra/launcher=submitit_slurm   where a sweep runs: basic, joblib,
                                  submitit_local, submitit_slurm
  launch.on_failure=stop_after_3  after failed runs: continue, stop
Hydra's own flags: runner --hydra-help
"""
_WIDTH = 80
_HEAD_BYTES = 4096
"""Of a file, to find its first comment in."""
_PLACES = {"text": "eval.text", "task": "tasks.own"}
"""Where groups are found that are chosen for a place: ``text@eval.text=bible``."""
_INTERNAL_GROUPS = ("hydra",)


def help_text(group: str | None = None, width: int | None = None) -> str:
    """The help page, or the described options of one config group.

    Args:
        group: A folder of ``conf/``.
        width: Columns to break a group's descriptions at; one line each by default.

    Raises:
        UsageError: There is no such group.
    """
    groups = {
        folder.name: {n: _comment(path) for n, path in option_files(folder.name).items()}
        for folder in sorted(conf_dir().iterdir())
        if folder.is_dir() and folder.name not in _INTERNAL_GROUPS
    }
    if group is not None and group not in groups:
        raise UsageError(unknown(f"config group {group}", groups, group, "groups"))
    if group is not None:
        return _described(group, groups[group], width)
    listed = [_wrapped(name, sorted(options)) for name, options in groups.items()]
    sweeps = _wrapped("-cn", sorted({n for folder in sweeps_dirs() for n in options(folder)}))
    return f"{_INTRODUCTION}{''.join(listed)}Ready sweeps\n{sweeps}\n{_FOOTER}"


def options(folder: Path) -> dict[str, str]:
    """Names of the YAML files, those of folders inside last, and the comment each begins with."""
    found = [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*/*.yaml"))]
    found = [path for path in found if path.is_file()]
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in found)
    return {name: _comment(path) for name, path in zip(names, found, strict=True)}


def _comment(path: Path) -> str:
    """The first line that is a comment for people; Hydra wants its own before it."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        lines = file.read(_HEAD_BYTES).decode("utf-8", "replace").splitlines()
    return next((line[2:] for line in lines if not line.startswith("# @")), "")


def _described(group: str, options: dict[str, str], width: int | None) -> str:
    indent = 4 + max(map(len, options))
    lines = []
    for name, about in options.items():
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
