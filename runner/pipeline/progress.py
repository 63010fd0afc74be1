"""The steps of a run, listed before it starts."""

from runner.config.schema.root import Config
from runner.pipeline.context import Expected
from runner.pipeline.record import used_recipe_label
from runner.pipeline.stages import in_order


def expected_stages(config: Config) -> list[tuple[str, str]]:
    """Stages whose results a run files, each with the label of what it is done to."""
    model = [config.model_label]
    own = [used_recipe_label(config)] if config.has_recipe else model
    expected = Expected(config, model, own)
    return [pair for stage in in_order(config.stages) for pair in stage.expects(expected)]
