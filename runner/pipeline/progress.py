"""What a run has to do, before it is begun."""

from runner.config.schema.bench import Interleave
from runner.config.schema.root import Config, StageName
from runner.engines import traits_of
from runner.methods.recipe import used_recipe
from runner.pipeline.steps.sensitivity import needed_sensitivity


def expected_stages(config: Config) -> list[tuple[StageName, str]]:
    """Stages whose results a run files, each with the label of what it is done to.

    As far as the configuration alone tells: the model is taken to be unquantized, and to be of
    the float type that method ``none`` is to make of it.
    """
    quantizes = StageName.quantize in config.stages
    model = ["unquantized" if quantizes else config.model.name]
    makes_another = config.makes_checkpoint
    own = [used_recipe(config).label] if makes_another else model
    both = [*model, *own] if makes_another else model
    timed = both if config.bench.baseline else own
    # A second look at the unquantized model, where it could not be in memory beside the recipe.
    holds_two = traits_of(config.engine.name).several_models
    looks_again = makes_another and timed is both and not holds_two
    looks_again = looks_again and config.bench.interleave is Interleave.auto
    subjects = {
        StageName.plan: own,
        StageName.sensitivity: model,
        StageName.quantize: own if makes_another else [],
        StageName.eval: both,
        StageName.tasks: both if config.tasks.names else [],
        StageName.bench: [*timed, *model] if looks_again else timed,
        StageName.serving: timed,
    }
    asked = [stage for stage in subjects if stage in config.stages]
    if quantizes and needed_sensitivity(config) is not None:
        # Of its own: what is asked for may be another grain, or other widths.
        asked.insert(asked.index(StageName.quantize), StageName.sensitivity)
    return [(stage, subject) for stage in asked for subject in subjects[stage]]
