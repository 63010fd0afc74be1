"""The sampler: optuna, given the measured points and asked for the next one."""

import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any

from runner.errors import UsageError
from runner.multirun.search.objectives import Objective
from runner.multirun.search.space import Point, Space

SAMPLERS = ("tpe", "nsga2", "random")
_ASKS = 20
"""After so many points in turn that are known already, one that is not is taken at random."""
_CONSTRAINT = "legal"


class Study:
    """A multi-objective study over a space whose points are each run once."""

    def __init__(self, space: Space, objectives: Sequence[Objective], name: str, seed: int) -> None:
        """Begin with nothing known.

        Args:
            space: What there is to choose from.
            objectives: In the order of the values to be told.
            name: Of the sampler, one of ``SAMPLERS``: TPE (Bergstra et al. 2011; several
                objectives: Ozaki et al. 2022), NSGA-II (Deb et al. 2002), or uniform.
            seed: Of the sampler.

        Raises:
            UsageError: optuna is not installed, or there is no such sampler.
        """
        if name not in SAMPLERS:
            raise UsageError(f"hydra.sweeper.sampler={name}: there are {', '.join(SAMPLERS)}")
        if importlib.util.find_spec("optuna") is None:
            raise UsageError("a search needs optuna: pip install 'quant-runner[search]'")
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._objectives = objectives
        self._seed = seed
        self._seen: set[tuple[str, ...]] = set()
        self.repeated = 0
        """How often the sampler came back to a known point."""
        self._distributions: dict[str, Any] = {
            name: optuna.distributions.CategoricalDistribution(choices)
            for name, choices in space.axes.items()
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            samplers: dict[str, Any] = {
                "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True),
                "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed, population_size=10),
                "random": lambda: optuna.samplers.RandomSampler(seed=seed),
            }
            directions: list[Any] = [
                "maximize" if one.maximized else "minimize" for one in objectives
            ]
            self._study: Any = optuna.create_study(directions=directions, sampler=samplers[name]())

    def tell(self, point: Point, values: Sequence[float] | None, legal: bool = True) -> None:
        """What became of a point.

        Args:
            point: It will not be chosen again.
            values: Of the objectives; ``None`` for a run that failed.
            legal: Whether it could be run at all.
        """
        from optuna.trial import TrialState, create_trial

        self._seen.add(self._space.identity(point))
        if legal and values is None:
            state, told = TrialState.FAIL, None
        else:
            # The sampler never compares values of infeasible points with those of others.
            worst = [-1e30 if one.maximized else 1e30 for one in self._objectives]
            state, told = TrialState.COMPLETE, [float(value) for value in values or worst]
        self._study.add_trial(
            create_trial(
                state=state,
                params=dict(point),
                distributions=self._distributions,
                values=told,
                constraints={_CONSTRAINT: 0.0 if legal else 1.0},
            )
        )

    def ask(self) -> Point | None:
        """A point that is not known yet, from now on it is; ``None`` when none is left."""
        from optuna.trial import TrialState

        if len(self._seen) >= len(self._space):
            return None
        for _ in range(_ASKS):
            trial = self._study.ask(self._distributions)
            point: Point = {name: str(trial.params[name]) for name in self._space.axes}
            # What becomes of it is told as a trial of its own.
            self._study.tell(trial, state=TrialState.FAIL)
            if self._space.identity(point) not in self._seen:
                break
            self.repeated += 1
        else:
            point = next(
                point
                for point in self._space.shuffled(self._seed + len(self._seen))
                if self._space.identity(point) not in self._seen
            )
        self._seen.add(self._space.identity(point))
        return point
