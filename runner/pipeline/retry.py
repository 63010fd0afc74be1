"""A second attempt for a stage that ran out of memory."""

from collections.abc import Callable
from typing import TypeVar

from runner.pipeline.worker.failed import WorkerFailed

T = TypeVar("T")


def at_half_without_memory(
    what: str, batch_size: int, attempt: Callable[[int], T], warn: Callable[[str], None]
) -> T:
    """``attempt(batch_size)``, and once more at half of it if memory ran out.

    For stages whose batch changes nothing but the last digits of a result. The result of the
    second attempt is kept as one of its own batch size.

    Args:
        what: The stage and its subject, for the warning.
        batch_size: What was asked for.
        attempt: Carries the stage out at a batch size.
        warn: Tells the user and the record.

    Raises:
        WorkerFailed: The stage failed for another reason, or at half the batch too.
    """
    try:
        return attempt(batch_size)
    except WorkerFailed as error:
        half = batch_size // 2
        if not error.out_of_memory or half < 1:
            raise
        warn(f"{what} ran out of memory at a batch size of {batch_size}: retrying at {half}")
        return attempt(half)
