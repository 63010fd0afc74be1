"""The configuration that Hydra composed for a job, and whether it makes sense."""

from typing import TYPE_CHECKING

from omegaconf import DictConfig

from runner.util.shown import tell

if TYPE_CHECKING:
    from runner.config.schema.root import Config


def judged(composed: DictConfig, overrides: list[str], *, alone: bool) -> "Config":
    """The configuration of a job; of a sweep's the sweeper has seen what no job reads.

    Args:
        composed: What Hydra made.
        overrides: Of what.
        alone: It is no sweep's.

    Raises:
        UsageError: It makes no sense, or sets what nothing reads.
    """
    from runner.config.compose import typed
    from runner.validation.unused import refuse_unused

    config = typed(composed, overrides)
    _ = config.launch.max_failures
    if alone:
        for told in refuse_unused(config, overrides):
            tell(f"  warning: {told}", error=True)
    return config
