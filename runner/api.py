"""The runner from Python."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.result import RunResult


def run(overrides: Sequence[str] = (), config_name: str = "config") -> "RunResult":
    """Carry out one run, as the command line does, and return its typed result.

    Example:
        >>> from runner import run
        >>> result = run(["method=gptq", "bits=w3a16"])  # doctest: +SKIP
        >>> result.eval.perplexity.value  # doctest: +SKIP

    Args:
        overrides: What would stand on the command line.
        config_name: Primary configuration to start from.

    Raises:
        UsageError: The configuration is wrong or cannot be carried out. A run that fails
            later does not raise: see ``result.status`` and ``result.reason``.
    """
    from hydra import compose, initialize_config_dir

    from runner.complaints import COMPOSITION_ERRORS, explain
    from runner.compose import register, typed
    from runner.errors import UsageError
    from runner.experiment.run import RunIdentity, illegalities, run_experiment
    from runner.paths import conf_dir
    from runner.result import RunResult
    from runner.session import Session

    register()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="runner"):
            config = typed(compose(config_name, overrides=list(overrides)))
    except COMPOSITION_ERRORS as error:
        raise UsageError(explain(error, overrides)) from None
    session = Session(Path(config.store.root).expanduser().resolve())
    try:
        if reasons := illegalities(config, session, list(overrides)):
            raise UsageError("; ".join(reasons))
        sweep = config.sweep or f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{uuid.uuid4().hex[:6]}"
        record = run_experiment(config, session, RunIdentity(sweep, 0, list(overrides)))
    finally:
        session.close()
    return RunResult.of(record)
