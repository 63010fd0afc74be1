"""The command line: Hydra composes, an ``Invocation`` carries out its jobs and answers.

Exit codes: 0 every run ok or skipped, 1 a run failed, 2 the request is wrong, 3 a gate fails, 4 a
gate cannot tell, 130 Ctrl-C.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from runner.cli.faults import FULL_ERROR, shows_faults
from runner.cli.flags import read_flags, shown_configuration, told_warnings
from runner.cli.invocation import Invocation
from runner.cli.quickstart import QUICKSTART, tell_next_steps
from runner.cli.refusals import Refusal, tell_stop
from runner.cli.stopping import tell_stopped
from runner.config.compose import register
from runner.errors import RunnerError, UsageError
from runner.multirun.launchers.task import SWEEP_VARIABLE, own_number
from runner.multirun.run_location import RunLocation
from runner.util.names import Name
from runner.util.paths import conf_dir, plugins_dir
from runner.util.processes import die_with_parent
from runner.util.surroundings import settle

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

    from runner.config.schema.root import Config


def execute() -> int:
    """Carry out the process's command line; returns the exit code.

    Raises:
        UsageError: A launcher's variable names no sweep or run.
    """
    register()
    sweep = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{os.getpid()}"
    sweep = Name.given(SWEEP_VARIABLE, os.environ.get(SWEEP_VARIABLE, sweep))
    os.environ[SWEEP_VARIABLE] = sweep
    if own_number() is not None:
        # Or a run would go on, and hold its GPU, when the launcher's process is killed.
        die_with_parent()
    # Launchers' processes unpickle what Hydra found among our plugins.
    paths = [str(plugins_dir()), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    # Hydra would print its errors itself, over many lines and with where it looked for files.
    show_everything = shows_faults()
    os.environ[FULL_ERROR] = "1"
    invocation = Invocation(sweep)
    try:
        return _execute(invocation, show_everything)
    finally:
        invocation.close()
        invocation.tidy()
        invocation.close_log()


def _execute(invocation: Invocation, show_everything: bool) -> int:
    def guarded(work: Callable[[], RunLocation | None]) -> RunLocation | Refusal | None:
        try:
            if os.getpid() != invocation.process:
                settle()
            return work()
        except Exception as error:
            if show_everything and not isinstance(error, RunnerError):
                raise
            return invocation.tell(error)
        finally:
            if os.getpid() != invocation.process:
                invocation.close()
                invocation.close_log()

    def job(composed: DictConfig) -> RunLocation | Refusal | None:
        return guarded(lambda: invocation.run_job(composed))

    def plain(config: "Config", place: int, words: list[str]) -> "JobReturn | None":
        from runner.multirun.launchers.thrifty import spared

        if config.dry_run or not invocation.is_run(config):
            return None
        return spared(guarded(lambda: invocation.run_plain(config, place, words)))

    # Before a sweep's launcher makes a job of a run, the task is asked whether it needs one.
    setattr(job, "spare", invocation.spare)  # noqa: B010
    setattr(job, "plain", plain)  # noqa: B010
    setattr(job, "number_runs", invocation.numbers.find)  # noqa: B010
    arguments = sys.argv[1:]
    try:
        flags = read_flags()
        # What Hydra shows of a configuration is shown, and kept in logs, without its credentials.
        with shown_configuration() if flags.cfg else contextlib.nullcontext(), told_warnings():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)()
    except SystemExit as stop:
        if stop.code:  # such as rich's, of an answer that nobody reads to its end
            raise
    except KeyboardInterrupt:
        return tell_stopped(invocation, arguments)
    except Exception as error:
        if show_everything and not isinstance(error, UsageError):
            raise
        return tell_stop(error, invocation.root, invocation.started)
    invocation.close()
    code = 0
    try:
        code = invocation.answer()
        if flags.config_name == QUICKSTART and invocation.place is not None:
            tell_next_steps()
    except Exception as error:
        if show_everything and not isinstance(error, RunnerError):
            raise
        invocation.tell(error)
    return max(code, *invocation.refusals.codes.values(), 0)
