"""Times that users see while others are served: decoding shares each step, prompts cut in.

Like the operators, everything works on numbers and on NumPy arrays of them.
"""

from dataclasses import dataclass

from runner.planning.kernels.forward import Forward
from runner.planning.kernels.operators import least, most

_STEP_TOKENS = 8192.0
"""Of prompts in one step, at most: the usual default of servers."""
_ROUNDS = 3
"""Of the fixed point: a fourth changes no prediction by 0.1%."""


@dataclass(frozen=True)
class Load:
    """So many users at once, each of whom sends the next prompt when an answer is complete."""

    concurrency: float
    prompt_tokens: float
    new_tokens: float
    most_running: float = 1e6
    """Sequences that fit, or that the engine decodes at once; further requests wait."""


@dataclass(frozen=True)
class Served:
    """What a load comes to, in the mean."""

    time_per_output_token_seconds: float
    """From one token of an answer to the next, others' prompts included."""
    time_to_first_token_seconds: float
    decode_seconds: float
    """Of a step without others' prompts."""
    running: float
    """Sequences that are decoded at once."""
    request_seconds: float
    """From a prompt to the end of its answer."""
    tokens_per_second: float
    """Generated, of all users together."""


def serve(forward: Forward, load: Load) -> Served:
    """The steady state of a load.

    Of the C users, those who decode share each step; while one of them waits for an answer of n
    tokens, each other user sends one prompt, whose prefill adds to the time of all: a token takes
    decode(B) + (C-1)·share·prefill/n, where share is the part of its life in which a request
    decodes. Prompts ride along with decode steps (chunked prefill), where weights are read once
    for both, or have steps of their own. Those whose answers end in one step begin in one step, so
    that a prompt waits for an eighth of all others', far more than if they came at random; so many
    share a step, up to its most tokens.
    """
    prompt, new, own = load.prompt_tokens, load.new_tokens, forward.constants
    users = least(load.concurrency, load.most_running)
    others = users - 1
    together = 1 + own.prompts_ahead * others
    batch = prompt * most(least(together, _STEP_TOKENS / prompt), 1.0)
    attention = forward.attention.prefill_seconds / own.attending
    alone = (forward.body_seconds(batch) + own.prefill_seconds) * prompt / batch + attention
    first = forward.prefill_seconds(prompt) + (together - 1) * alone
    share, running = 1.0, users
    for _ in range(_ROUNDS):
        body = forward.body_seconds(running)
        step = forward.step_seconds(running, body)
        riding = (forward.body_seconds(running + batch) - body) * prompt / batch + attention
        stall = own.separate_prefill * alone + (1 - own.separate_prefill) * riding
        token = step + others * share * stall / new
        share = new * token / (first + new * token)
        running = 1 + others * share
    first = first + least(others, 1.0) * step / 2
    life = first + new * token
    waiting = (load.concurrency / users - 1) * life
    return Served(
        time_per_output_token_seconds=token,
        time_to_first_token_seconds=first + waiting,
        decode_seconds=step,
        running=running,
        request_seconds=life + waiting,
        tokens_per_second=users * new / life,
    )


def run_batch_seconds(forward: Forward, load: Load) -> float:
    """A batch that starts together and is done when its last answer is, in seconds.

    What does not fit at once goes after it.
    """
    users = least(load.concurrency, load.most_running)
    steps = load.new_tokens * forward.decode_seconds(users)
    prompts = users * forward.prefill_seconds(load.prompt_tokens)
    return load.concurrency / users * (prompts + steps)
