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
    for job in jobs[:: len(jobs) // 4 - 1]:
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
