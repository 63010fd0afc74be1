"""The best order of a sweep's runs."""

_CHECKPOINT = ("model", "method", "bits", "group_size", "calibration")
_ENGINE = ("engine",)


def by_checkpoint(jobs: list[list[str]]) -> list[list[str]]:
    """Jobs of one checkpoint one after the other, and among them those of one engine.

    A worker that has loaded a checkpoint keeps it as long as the next run needs it. Otherwise the
    order stays as it was: what came first stays first.

    Args:
        jobs: Overrides of each job.
    """
    places: dict[tuple[tuple[str, ...], ...], int] = {}

    def place(job: list[str]) -> tuple[int, int]:
        checkpoint, engine = _named(job, _CHECKPOINT), _named(job, _ENGINE)
        return (
            places.setdefault((checkpoint,), len(places)),
            places.setdefault((checkpoint, engine), len(places)),
        )

    return sorted(jobs, key=place)


def _named(job: list[str], groups: tuple[str, ...]) -> tuple[str, ...]:
    """The overrides of these groups and of fields in them."""
    return tuple(sorted(one for one in job if _group(one) in groups))


def _group(override: str) -> str:
    """``method`` of ``+method.sym=false``, ``calibration`` of ``text@calibration.text=local``."""
    key = override.lstrip("+~").partition("=")[0]
    package = key.partition("@")[2] or key
    return package.partition(".")[0]
