"""The runner's Python API."""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.result import RunResult


def run(overrides: Sequence[str] = (), config_name: str = "config") -> "RunResult":
    """Execute one run, as the command line does, and return its typed result.

    Example:
        >>> from runner import run
        >>> result = run(["method=gptq", "bits=w3a16"])  # doctest: +SKIP
        >>> result.eval.perplexity.value  # doctest: +SKIP

    Args:
        overrides: Arguments as on the command line.
        config_name: Name of the primary configuration.

    Raises:
        UsageError: The configuration is invalid or cannot be executed. A run that fails
            later does not raise: see ``result.status`` and ``result.reason``.
    """
    from runner.errors import UsageError
    from runner.pipeline.record import RunIdentity
    from runner.pipeline.result import RunResult
    from runner.pipeline.run import illegalities, run_experiment
    from runner.reporting.observed import open_session
    from runner.validation.unused import refuse_unused

    config = compose_config(overrides, config_name)
    refuse_unused(config, overrides)
    session = open_session(config)
    try:
        if reasons := illegalities(config, session, list(overrides)):
            raise UsageError("; ".join(reasons))
        sweep = config.sweep or f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{uuid.uuid4().hex[:6]}"
        record = run_experiment(config, session, RunIdentity(sweep, 0, list(overrides)))
    finally:
        session.close()
    return RunResult.of(record)


@contextlib.contextmanager
def keep_workers() -> Iterator[None]:
    """Share worker processes between the calls of ``run`` in a ``with`` block.

    All but the first call save the seconds that importing the libraries takes. Workers keep the
    environment variables that they were started with, except those that the runner itself sets.

    Example:
        >>> from runner import keep_workers, run
        >>> with keep_workers():  # doctest: +SKIP
        ...     results = [run([f"bits={bits}"]) for bits in ("w4a16", "w8a16")]
    """
    from runner.pipeline.worker import pool

    with pool.keep_workers():
        yield


def compose_config(overrides: Sequence[str] = (), config_name: str = "config") -> "Config":
    """Compose the configuration, as a command line with these overrides does.

    Raises:
        UsageError: An override is invalid, or an option does not exist.
    """
    from hydra import compose, initialize_config_dir

    from runner.config.compose import register, typed
    from runner.config.errors import COMPOSITION_ERRORS, explain
    from runner.config.words import read_words
    from runner.errors import UsageError
    from runner.util.paths import conf_dir

    register()
    words = read_words(overrides, sweep=False)
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="runner"):
            return typed(compose(config_name, overrides=words), words)
    except COMPOSITION_ERRORS as error:
        raise UsageError(explain(error, words)) from None
