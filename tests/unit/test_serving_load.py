"""What users see of a load: nothing of others where there are none, and never less with more."""

from dataclasses import fields, replace

import numpy as np
import pytest

from runner.planning.kernels.constants import NEUTRAL
from runner.planning.kernels.forward import Forward
from runner.planning.kernels.load import Load, Served, run_batch_seconds, serve
from runner.planning.kernels.operators import Attention, Experts, Product, Reduce

pytestmark = pytest.mark.unit

CONSTANTS = replace(
    NEUTRAL, layer_seconds=2e-5, step_seconds=5e-4, sequence_seconds=1e-5, prefill_seconds=5e-3,
    separate_prefill=0.5, prompts_ahead=0.125,
)  # fmt: skip
PLAIN = Forward(
    products=(Product(32, 1e-4, 1e-8, 1e-5, 4e-7), Product(32, 2e-4, 1e-8, 1e-5, 8e-7)),
    head=Product(1, 3e-4, 1e-7, 1e-5, 1e-6),
    attention=Attention(3e-4, 5e-5, 1e-6, 5e-3),
    floor_seconds=5e-4,
    layers=32,
    constants=CONSTANTS,
)
MIXTURE = replace(
    PLAIN,
    experts=Experts(32, 64, 4, 0.8, 2e-6, 1e-8, 1e-6, 1e-7, 2e-5),
    reduce=Reduce(64, 5e-6, 1e-7, 2e-5, 5e-8),
)
MODELS = pytest.mark.parametrize("model", [PLAIN, MIXTURE], ids=["dense", "experts over devices"])
TIMES = ("time_per_output_token_seconds", "time_to_first_token_seconds", "request_seconds")


def longer(model: Forward, times: float) -> Forward:
    """With caches so many times as long, and prompts to go with them."""
    attention = replace(
        model.attention,
        read_sequence=times * model.attention.read_sequence,
        prefill_seconds=times**2 * model.attention.prefill_seconds,
    )
    return replace(model, attention=attention)


@MODELS
def test_one_user_waits_for_nobody(model: Forward) -> None:
    served = serve(model, Load(1, 1000, 100))
    step, first = model.decode_seconds(1), model.prefill_seconds(1000)
    assert served == Served(
        time_per_output_token_seconds=pytest.approx(step),
        time_to_first_token_seconds=pytest.approx(first),
        decode_seconds=pytest.approx(step),
        running=1,
        request_seconds=pytest.approx(first + 100 * step),
        tokens_per_second=pytest.approx(100 / (first + 100 * step)),
    )


@MODELS
def test_more_users_wait_longer_and_are_given_more_together(model: Forward) -> None:
    served = [serve(model, Load(users, 1000, 100)) for users in (1, 2, 4, 8, 32, 128, 512)]
    for name in (*TIMES, "decode_seconds", "running", "tokens_per_second"):
        values = [getattr(one, name) for one in served]
        assert values == sorted(values) and len(set(values)) == len(values), name
    # Never more than all of them without each other's prompts would be given.
    for users, one in zip((1, 2, 4, 8, 32, 128, 512), served, strict=True):
        assert 0 < one.running <= users
        assert one.tokens_per_second <= one.running / one.decode_seconds * 1.01


@MODELS
def test_longer_prompts_and_contexts_take_longer(model: Forward) -> None:
    for users in (1, 16, 256):
        prompts = [serve(model, Load(users, prompt, 100)) for prompt in (10, 100, 1000, 10000)]
        contexts = [serve(longer(model, times), Load(users, 1000, 100)) for times in (1, 2, 4)]
        for name in TIMES:
            for served in (prompts, contexts):
                values = [getattr(one, name) for one in served]
                # One user's tokens do not know of prompts.
                assert values == sorted(values), (users, name)
        assert prompts[0].tokens_per_second > prompts[-1].tokens_per_second
        assert contexts[0].tokens_per_second > contexts[-1].tokens_per_second


@MODELS
def test_the_longer_the_answers_the_less_prompts_stall_them(model: Forward) -> None:
    times = [
        serve(model, Load(64, 1000, new)).time_per_output_token_seconds for new in (10, 100, 1000)
    ]
    assert times == sorted(times, reverse=True)
    endless = serve(model, Load(64, 1000, 1e9))
    assert endless.time_per_output_token_seconds == pytest.approx(model.decode_seconds(64))


@MODELS
def test_what_does_not_fit_waits_for_a_place(model: Forward) -> None:
    full, half_more = (serve(model, Load(users, 1000, 100, 64)) for users in (64, 96))
    assert half_more.time_per_output_token_seconds == full.time_per_output_token_seconds
    assert half_more.tokens_per_second == full.tokens_per_second
    assert half_more.running == full.running <= 64
    # Half as many again have half of a request before them, as Little's law has it.
    waiting = half_more.time_to_first_token_seconds - full.time_to_first_token_seconds
    assert waiting == pytest.approx(full.request_seconds / 2)
    assert half_more.request_seconds == pytest.approx(1.5 * full.request_seconds)
    for served, users in ((full, 64), (half_more, 96)):
        assert served.tokens_per_second == pytest.approx(users * 100 / served.request_seconds)


@MODELS
def test_a_batch_that_starts_together_is_done_with_its_last_token(model: Forward) -> None:
    eight = 8 * model.prefill_seconds(1000) + 100 * model.decode_seconds(8)
    assert run_batch_seconds(model, Load(8, 1000, 100)) == pytest.approx(eight)
    assert run_batch_seconds(model, Load(16, 1000, 100, 8)) == pytest.approx(2 * eight)


@MODELS
def test_arrays_are_answered_as_their_numbers_are(model: Forward) -> None:
    """Constants are fitted with the code that predicts, on many points at once."""
    columns = (np.array([1.0, 3.0, 64.0, 700.0]), np.array([7.0, 1e3, 1e4, 300.0]))
    new, room = np.array([1.0, 128.0, 2e3, 50.0]), np.array([1e6, 2.0, 64.0, 256.0])
    together = Load(*columns, new, room)  # type: ignore[arg-type]
    served, batch = serve(model, together), run_batch_seconds(model, together)
    for place in range(4):
        load = Load(*(float(column[place]) for column in (*columns, new, room)))
        one = serve(model, load)
        for field in fields(Served):
            found = np.broadcast_to(getattr(served, field.name), (4,))[place]
            assert found == pytest.approx(getattr(one, field.name)), field.name
        assert np.asarray(batch)[place] == pytest.approx(run_batch_seconds(model, load))
