"""Prints what a run would do."""

from pathlib import Path

from runner.config.schema.root import Config
from runner.errors import UsageError
from runner.multirun.dry_run.session import PeekSession, titles
from runner.multirun.launchers.estimate import Estimate, Experience, besides, starting
from runner.pipeline.experience.data_points import all_records
from runner.pipeline.experience.durations import REST, START, kind_of
from runner.pipeline.judge import judge
from runner.pipeline.record import RunIdentity, done_record, run_name, used_recipe_label
from runner.planning.hardware.detect import detect


class DryRun:
    """A sweep's runs, one after the other; a result that several need is counted once."""

    def __init__(self) -> None:
        """Nothing is looked at before the first run."""
        self._machine = detect()
        self._session: PeekSession | None = None
        self._experience = Experience([])
        self._total = Estimate()
        self._started: set[str] = set()
        """Environments whose workers an earlier run starts."""
        self._runs = 0
        self._uncosted = 0
        self.refused: str | None = None
        """Why the latest run would not run."""

    def describe(self, config: Config, identity: RunIdentity) -> str:
        """Lines about one run: legal here or not, what the store has of it, what the rest costs.

        Args:
            config: The run's configuration.
            identity: Where it would be filed.
        """
        root = Path(config.store.root).expanduser().resolve()
        run = run_name(identity.number, used_recipe_label(config))
        head = f"{run}  {config.model.name} on {config.engine.name}: "
        self.refused = None
        try:
            judged = judge(config, self._machine, identity.overrides)
        except UsageError as error:
            self.refused = str(error)
            return f"{head}wrong: {error}"
        warnings = [f"  warning: {warning}" for warning in judged.warnings]
        if judged.reasons:
            self.refused = "; ".join(judged.reasons)
            return "\n".join([f"{head}would be skipped: {self.refused}", *warnings])
        if done_record(root / "runs", config, self._machine, identity) is not None:
            return "\n".join([f"{head}is done, would be kept", *warnings])
        costs = self._costs(config, identity.sweep, root, judged.facts.architecture.parameters or 0)
        return "\n".join([f"{head}would run", *warnings, *costs])

    def summary(self) -> str | None:
        """The cost of all runs that would run; ``None`` when none would."""
        if not self._runs:
            return None
        without = f", without {self._uncosted} of unknown cost" if self._uncosted else ""
        return f"{self._runs} would run: {self._total}{without}"

    def _costs(self, config: Config, sweep: str, root: Path, parameters: int) -> list[str]:
        if self._session is None or self._session.store.root != root:
            environments = Path(config.store.environments).expanduser().resolve()
            self._session = PeekSession(root, environments)
            self._experience = Experience(all_records(root / "runs"))
        seen = self._session.look(config, sweep)
        known = self._session.clock.known(config)
        estimate = Estimate()
        for stage, title in seen.missing:
            like = self._experience.estimate(stage, config, self._machine, parameters)
            took = known.seconds(kind_of(stage, title, config))
            estimate = estimate.and_then(like if took is None else like.taking(took))
        for environment in seen.starting - self._started:
            estimate = estimate.and_then(
                starting(known.seconds(kind_of(START, environment, config)))
            )
        self._started |= seen.starting
        if seen.missing:
            estimate = estimate.and_then(besides(known.seconds(kind_of(REST, REST, config))))
        self._runs += 1
        # Without its dimensions an estimate would be that of a model of no size.
        sized = parameters > 0 or not estimate.rough
        if sized:
            self._total = self._total.and_then(estimate)
        else:
            self._uncosted += 1
        lines = []
        if seen.cached:
            lines.append(f"  cached: {titles(seen.cached)}")
        if seen.shared:
            lines.append(f"  made by an earlier run: {titles(seen.shared)}")
        if seen.missing:
            cost = estimate if sized else "cost unknown without the model's dimensions"
            lines.append(f"  to do: {titles(seen.missing)}: {cost}")
        if seen.unknown:
            lines.append(f"  later stages not checked: {seen.unknown}")
        return lines
