"""How much a run has to do."""

from runner.config.root import Config, StageName


def stage_count(config: Config) -> int:
    """Stages whose results a run files, the unquantized model's among them."""
    asked = set(config.stages)
    quantizes = StageName.quantize in asked and config.method.name != "none"
    both = 2 if quantizes else 1
    counts = {
        StageName.plan: 1,
        StageName.sensitivity: 1,
        StageName.quantize: 1 if quantizes else 0,
        StageName.eval: both,
        StageName.tasks: both if config.tasks.names else 0,
        StageName.bench: both if config.bench.baseline else 1,
        StageName.serving: both if config.bench.baseline else 1,
    }
    return sum(count for stage, count in counts.items() if stage in asked)
