"""Rules on the serving stage."""

from collections.abc import Iterator

from runner.config.schema.root import Config
from runner.engines import find_engine, names_with
from runner.validation.context import Facts
from runner.validation.verdict import Verdict, illegal


def check_serving(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Whether there is a server, and whether the load makes sense."""
    load = config.serving
    traits = find_engine(name := config.engine.name).traits
    if not traits.has_server:
        servers = names_with(lambda traits: traits.has_server)
        yield illegal(
            f"serving needs an engine with a server, but engine={name} has none",
            " or ".join(f"engine={one}" for one in servers),
        )
    if load.max_concurrency is not None and not load.slo.is_set:
        yield illegal(
            "serving.max_concurrency looks for where an SLO breaks, and none is set",
            "serving.slo.time_to_first_token_seconds=1s",
        )
    if not load.concurrencies and not load.arrival_rates and load.max_concurrency is None:
        yield illegal(
            "serving has no load; set serving.concurrencies or serving.arrival_rates",
            "serving.concurrencies=[1,4]",
        )
    if not traits.serves_from_slices and any(gpu.is_slice for gpu in facts.gpus):
        yield illegal(
            f"serving: the server of engine={name} takes a slice of a GPU in MIG mode for a whole "
            "one",
            "a GPU that is not in MIG mode, or stages without serving",
        )
    total, context = load.prompt_tokens + load.new_tokens, facts.architecture.context
    if context is not None and total > context:
        yield illegal(
            f"serving needs {total} tokens, but the model's context is {context}",
            f"serving.prompt_tokens={max(1, context - load.new_tokens)}",
        )
    field, room = config.engine.longest_sequence() or ("", total)
    if total > room:
        yield illegal(
            f"serving needs {total} tokens, which do not fit engine.{field}={room}",
            f"engine.{field}={total}",
        )
