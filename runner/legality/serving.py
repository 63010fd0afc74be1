"""Rules on the serving stage."""

from collections.abc import Iterator

from runner.config.root import Config
from runner.engines import find_engine, names_with
from runner.legality.facts import Facts
from runner.legality.verdict import Verdict, illegal


def check_serving(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Whether there is a server, and whether the load makes sense."""
    load = config.serving
    if not find_engine(name := config.engine.name).traits.has_server:
        servers = names_with(lambda traits: traits.has_server)
        yield illegal(
            f"serving needs an engine with a server, and engine={name} has none",
            " or ".join(f"engine={one}" for one in servers),
        )
    if not load.concurrencies and not load.arrival_rates:
        yield illegal(
            "serving has no load: neither concurrencies nor arrival rates",
            "serving.concurrencies=[1,4]",
        )
    if min([*load.concurrencies, 1]) < 1 or min([*load.arrival_rates, 1.0]) <= 0:
        yield illegal("loads of serving must be positive", "serving.concurrencies=[1,4]")
    if load.requests < 1 or load.prompt_tokens < 1 or load.new_tokens < 2:
        yield illegal(
            "serving needs a request with a prompt and two new tokens at least", "serving=default"
        )
    for name, value in vars(load.objective).items():
        if value is not None and value <= 0:
            yield illegal(
                f"serving.objective.{name}={value} cannot be met", f"serving.objective.{name}=null"
            )
    total, context = load.prompt_tokens + load.new_tokens, facts.architecture.context
    if context is not None and total > context:
        yield illegal(
            f"serving asks for {total} tokens, the model's context is {context}",
            f"serving.prompt_tokens={max(1, context - load.new_tokens)}",
        )
