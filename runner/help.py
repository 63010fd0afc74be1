"""``runner --help``: what can be said, read from the configuration folders without Hydra."""

import textwrap
from pathlib import Path

from runner.errors import UsageError
from runner.paths import conf_dir, sweeps_dir

_INTRODUCTION = """\
runner measures LLM quantization trade-offs: it quantizes a model, measures quality and
speed against the unquantized model, and prints which recipe to serve.

Usage
  runner                                           the default experiment
  runner method=rtn bits=w3a16 group_size=g32      another recipe
  runner -m method=none,rtn,gptq bits=w8a16,w4a16  a sweep over combinations
  runner -cn first_look                            a ready sweep out of sweeps/
  runner stages=[eval,bench] model=local model.path=/models/mine
  runner stages=[plan] model=llama31_70b           predict: what to serve it on, for how much
  runner stages=[report]                           the last answer again, from the store
  runner env list                                  environments; also create, check, remove
  runner store list                                what is kept; also show, verify, prune
  runner track sync                                send what W&B keeps offline
  runner --cfg job                                 what would be run, resolved
  runner --help GROUP                              the options of a group, described
  eval "$(runner -sc install=bash)"                tab completion

Config groups: choose with GROUP=OPTION
"""
_FOOTER = """\
Single fields: GROUP.FIELD=VALUE, such as method.sym=false, bench.batch_sizes=[1,4,16],
eval.context_length=2048 or store.root=/data/store. All of them: runner --cfg job.
Other settings
  stages=[quantize,eval,bench]   steps to go through; also plan, and report
  force=[quantize]               steps to redo although the store has their result
  sweep=NAME                     the name that results are filed under; the same again resumes
  hydra/launcher=submitit_slurm  where a sweep runs: basic, joblib, submitit_local, submitit_slurm
  dry_run=true                   what each run would be, without doing it
  launch.on_failure=stop_after_3 what a failed run means for those after it: continue, stop
Hydra's own flags: runner --hydra-help
"""
_INTERNAL_GROUPS = ("hydra",)


def help_text(group: str | None = None) -> str:
    """The help page, or the described options of one config group.

    Raises:
        UsageError: There is no such group.
    """
    groups = {
        folder.name: options(folder)
        for folder in sorted(conf_dir().iterdir())
        if folder.is_dir() and folder.name not in _INTERNAL_GROUPS
    }
    if group is not None and group not in groups:
        raise UsageError(f"there is no config group {group}; there are {', '.join(groups)}")
    if group is not None:
        width = max(map(len, groups[group]))
        lines = [f"  {name:<{width}}  {about}" for name, about in groups[group].items()]
        return f"{group}=…\n" + "\n".join(lines) + "\n"
    listed = [_wrapped(name, sorted(options)) for name, options in groups.items()]
    sweeps = _wrapped("-cn", sorted(options(sweeps_dir())))
    return f"{_INTRODUCTION}{''.join(listed)}Ready sweeps\n{sweeps}\n{_FOOTER}"


def options(folder: Path) -> dict[str, str]:
    """Names of the YAML files and the comment each begins with."""
    return {path.stem: _comment(path) for path in sorted(folder.glob("*.yaml"))}


def _comment(path: Path) -> str:
    """The first line that is a comment for people; Hydra wants its own before it."""
    lines = path.read_text("utf-8").splitlines()
    return next((line[2:] for line in lines if not line.startswith("# @")), "")


def _wrapped(name: str, options: list[str]) -> str:
    lines = textwrap.wrap(", ".join(options), width=72)
    return f"  {name:<12} " + ("\n" + " " * 15).join(lines) + "\n"
