"""The steps of a run, listed before it starts."""

from runner.config.schema.root import Config, StageName
from runner.methods import used_recipe
from runner.pipeline.context import Expected
from runner.pipeline.stages import in_order


def expected_stages(config: Config) -> list[tuple[str, str]]:
    """Stages whose results a run files, each with the label of what it is done to."""
    model = ["unquantized" if StageName.quantize in config.stages else config.model.name]
    own = [used_recipe(config).label] if config.makes_checkpoint else model
    expected = Expected(config, model, own)
    return [pair for stage in in_order(config.stages) for pair in stage.expects(expected)]
