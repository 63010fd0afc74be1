"""Jobs that are put together of parts are what Hydra would have composed."""

import copy
import itertools
from collections.abc import Callable, Sequence

import pytest

from runner.api import compose_config
from runner.config.schema.root import Config
from runner.errors import UsageError
from runner.multirun.combinations import Combinations

pytestmark = pytest.mark.unit

FIXED = ["model=tiny", "eval=quick"]


def grid(*choices: Sequence[str]) -> list[list[str]]:
    return [[*FIXED, *job] for job in itertools.product(*choices)]


@pytest.fixture(scope="module")
def base() -> Config:
    return compose_config([*FIXED, "method=rtn"])


def composer(base: Config, count: list[int]) -> Callable[[list[str]], Config]:
    """Sets fields as overrides say, without Hydra."""

    def compose(job: list[str]) -> Config:
        count[0] += 1
        config = copy.deepcopy(base)
        for override in job[len(FIXED) :]:
            key, _, value = override.partition("=")
            section, _, name = key.rpartition(".")
            if value == "wrong":
                raise UsageError(f"{override} makes no sense")
            kind = type(getattr(getattr(config, section), name))
            setattr(getattr(config, section), name, kind(value))
        return config

    return compose


SEEDS = [f"calibration.seed={seed}" for seed in range(200)]
WINDOWS = [f"eval.windows={number}" for number in (2, 4, 8)]


def test_every_job_is_what_hydra_composes_and_few_are_composed() -> None:
    """``method=…`` brings a section of its own, in which another override sets a field."""
    count = [0]

    def compose(job: list[str]) -> Config:
        count[0] += 1
        return compose_config(job)

    jobs = grid(
        ["method=rtn", "method=gptq"],
        ["method.rounding_dtype=auto", "method.rounding_dtype=float32"],
        ["bits=w4a16", "bits=w8a16"],
        SEEDS,
    )
    combinations = Combinations(jobs, compose)
    assert len(jobs) == 1600
    assert count[0] < 20
    for job in jobs[:: len(jobs) // 2 - 1]:
        assert combinations.knows(job)
        assert repr(combinations.config(job)) == repr(compose_config(job))


def test_what_two_overrides_do_together_alone_is_noticed(base: Config) -> None:
    plain = composer(base, [0])

    def compose(job: list[str]) -> Config:
        config = plain(job)
        if config.eval.windows == 8 and config.eval.context_length == 64:
            config.bench.new_tokens = 77
        return config

    jobs = grid(WINDOWS, ["eval.context_length=32", "eval.context_length=64"], SEEDS)
    combinations = Combinations(jobs, compose)
    assert not any(combinations.knows(job) for job in jobs)
    found = [combinations.config(job) for job in jobs]
    assert sum(one is not None and one.bench.new_tokens == 77 for one in found) == len(SEEDS)


def test_a_number_is_of_the_type_that_its_field_has(base: Config) -> None:
    count = [0]
    compose = composer(base, count)
    jobs = grid([f"tracker.project={number}" for number in range(40)], WINDOWS, SEEDS[:9])
    combinations = Combinations(jobs, compose)
    for job in jobs[::97]:
        assert repr(combinations.config(job)) == repr(compose(job))


def test_what_is_wrong_is_told_of_the_job_that_has_it(base: Config) -> None:
    jobs = grid([*WINDOWS, "eval.windows=wrong"], SEEDS)
    combinations = Combinations(jobs, composer(base, [0]))
    assert combinations.config(jobs[0]) is not None
    with pytest.raises(UsageError, match="wrong makes no sense"):
        combinations.config(jobs[-1])


def test_a_configuration_shares_nothing_that_another_job_changes(base: Config) -> None:
    jobs = grid(WINDOWS, SEEDS)
    combinations = Combinations(jobs, composer(base, [0]))
    one, other = combinations.config(jobs[0]), combinations.config(jobs[-1])
    assert one is not None
    assert other is not None
    assert (one.eval.windows, other.eval.windows) == (2, 8)
    assert (one.calibration.seed, other.calibration.seed) == (0, 199)


def test_what_is_left_to_the_job_is_composed_by_nobody_else(base: Config) -> None:
    """The first job of a kind, one of its parts, or one of those that are looked at whole."""
    plain = composer(base, [0])
    jobs = grid(WINDOWS, SEEDS)
    for left in (jobs[0], [*FIXED, "eval.windows=4", "calibration.seed=0"], jobs[-1]):

        def compose(job: list[str], left: list[str] = left) -> Config | None:
            return None if job == left else plain(job)

        combinations = Combinations(jobs, compose)
        assert combinations.knows(left) is (left == jobs[-1]), "the last is no part and no sample"
        assert (combinations.config(left) is None) is not combinations.knows(left)


def test_where_nearly_every_job_is_a_part_all_are_composed_whole(base: Config) -> None:
    texts = [f"tracker.project=name{number}" for number in range(40)]
    for jobs in (
        [[*FIXED, *pair] for pair in zip(SEEDS[:13], texts[:13], strict=True)],
        [[*FIXED, f"eval.windows={n % 7 + 1}", f"bench.new_tokens={n % 8 + 8}"] for n in range(14)],
        grid(texts),
    ):
        count = [0]
        combinations = Combinations(jobs, composer(base, count))
        assert not any(map(combinations.knows, jobs))
        assert count[0] <= 2, "next to nothing was composed in vain"
    assert Combinations(grid(texts, WINDOWS), composer(base, [0])).knows(grid(texts, WINDOWS)[50])


@pytest.mark.parametrize("odd", ["2.5", "1e1"])
def test_numbers_of_another_kind_among_whole_ones_are_composed(base: Config, odd: str) -> None:
    """The least and the largest tell nothing of a number that is none of the field's."""
    count = [0]
    plain = composer(base, count)

    def compose(job: list[str]) -> Config:
        if f"calibration.seed={odd}" in job and odd == "2.5":
            raise UsageError(f"calibration.seed={odd} is no whole number")
        return plain([one.replace("1e1", "10") for one in job])

    jobs = grid([*SEEDS[:20], f"calibration.seed={odd}"], WINDOWS)
    combinations = Combinations(jobs, compose)
    if odd == "2.5":
        with pytest.raises(UsageError, match="no whole number"):
            combinations.config(jobs[-1])
        return
    config = combinations.config(jobs[-1])
    assert combinations.knows(jobs[-1])
    assert config is not None and repr(config.calibration.seed) == "10"


def test_a_field_of_any_type_has_numbers_as_they_were_typed(base: Config) -> None:
    """The ends are a whole number and a fraction, so neither tells what is between them."""

    def compose(job: list[str]) -> Config:
        config = copy.deepcopy(base)
        for override in job[len(FIXED) :]:
            key, _, value = override.partition("=")
            if key == "tracker.project":
                config.tracker.project = float(value) if "." in value else int(value)  # type: ignore[assignment]
            else:
                config.eval.windows = int(value)
        return config

    numbers = [f"tracker.project={number}" for number in (*range(1, 20), 19.5)]
    jobs = grid(numbers, WINDOWS)
    combinations = Combinations(jobs, compose)
    for job in (jobs[0], jobs[7], jobs[-1]):
        assert repr(combinations.config(job)) == repr(compose(job))
