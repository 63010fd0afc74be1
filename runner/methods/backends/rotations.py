"""llm-compressor's rotations, of models whose function they leave as it is.

``SpinQuantModifier`` of llm-compressor 0.14.0.1 changes it, before anything is rounded:

- It takes the mean from every embedding, which only a LayerNorm takes from its input anyhow. Under
  RMSNorm that is another model: KL 0.021 nats a token on SmolLM2-135M, 0.19 on Gemma 3 270M.
- It takes every norm to multiply by its weight; Gemma's multiply by 1 + weight (KL 40 nats).

So here embeddings stay as they are, norms are asked what they multiply by, and the model's logits
are compared before and after the rotation.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from runner.errors import Refused
from runner.methods.backends.rotatable import head_size, require_rotatable, stream_of
from runner.methods.base import QuantizeJob

if TYPE_CHECKING:
    import torch

_MOST_CHANGE = {4: 1e-3, 2: 0.1}
"""Most relative change of logits by rotation alone, by the bytes of a number. Seen: 1e-5 in
float32."""
_TOKENS = 32
_NEUTRAL = 0.1
"""How far a norm's factor may be from weight or from 1 + weight, for rounding's sake."""


def spinquant_modifier(
    job: QuantizeJob, *, rotations: list[str], transform_type: str, block_size: int | None
) -> Any:
    """A ``SpinQuantModifier``.

    Args:
        job: Its model is looked at before it is loaded.
        rotations: ``R1``, ``R2``, ``R4``.
        transform_type: llm-compressor's name of it.
        block_size: Of R1 and R4; R2's is a head.

    Raises:
        Refused: The model has other layers than the rotations need.
    """
    import torch
    from compressed_tensors.transform import TransformConfig, apply_transform_config
    from llmcompressor.modifiers.transform.spinquant import SpinQuantModifier
    from llmcompressor.modifiers.transform.spinquant.mappings import SpinQuantMapping
    from llmcompressor.utils import untie_word_embeddings

    require_rotatable(job, rotations, transform_type, block_size)

    class Modifier(SpinQuantModifier):  # type: ignore[misc]
        def on_initialize(self, state: Any, **_: Any) -> bool:
            model = state.model
            self.mappings = SpinQuantMapping(**stream_of(model).mapping)
            schemes = {
                "R1": self._create_r1_scheme,
                "R2": lambda: self._create_r2_scheme(head_size(model)),
                "R4": self._create_r4_scheme,
            }
            groups = {name: schemes[name]() for name in rotations}
            self.transform_config = TransformConfig(config_groups=groups)
            return True

        @torch.no_grad()
        def on_calibration_start(self, state: Any, event: Any, **_: Any) -> None:
            model = state.model
            with function_kept(model, f"rotations {', '.join(rotations)}"):
                if "R1" in rotations:
                    untie_word_embeddings(model)
                    for norm, linears in stream_of(model).norms:
                        _fuse(norm, linears)
                apply_transform_config(model, self.transform_config)

    return _named(Modifier, SpinQuantModifier)(
        rotations=rotations, transform_type=transform_type, transform_block_size=block_size,
        precision=torch.float32,
    )  # fmt: skip


def quip_modifier(
    job: QuantizeJob, *, rotations: list[str], transform_type: str, block_size: int | None
) -> Any:
    """A ``QuIPModifier``.

    Args:
        job: Its model is looked at before it is loaded.
        rotations: ``v`` (inputs), ``u`` (outputs).
        transform_type: llm-compressor's name of it.
        block_size: Of blocks on the diagonal.

    Raises:
        Refused: The model has other layers than the rotations need.
    """
    import torch
    from llmcompressor.modifiers.transform.quip import QuIPModifier

    require_rotatable(job, rotations, transform_type, block_size)

    class Modifier(QuIPModifier):  # type: ignore[misc]
        @torch.no_grad()
        def on_calibration_start(self, state: Any, event: Any, **options: Any) -> None:
            with function_kept(state.model, f"rotations {', '.join(rotations)}"):
                super().on_calibration_start(state, event, **options)

    return _named(Modifier, QuIPModifier)(
        rotations=rotations, transform_type=transform_type, transform_block_size=block_size,
        # Stored in the model's own type, which holds entries of 1 and -1 exactly.
        precision=torch.float32, ignore=job.recipe.method.ignore,
    )  # fmt: skip


@contextlib.contextmanager
def function_kept(model: Any, what: str) -> Iterator[None]:
    """Compare a model's logits before and after it was rotated, with nothing rounded.

    Raises:
        Refused: They are others.
    """
    before = _logits(model)
    yield
    after = _logits(model)
    scale = (before - before.mean(-1, keepdim=True)).norm()
    change = float((after - before).norm() / scale)
    width = next(model.parameters()).dtype.itemsize
    if not change <= _MOST_CHANGE[min(width, 4)]:
        raise Refused(
            f"{what} would change what {type(model).__name__} computes: its logits by "
            f"{change:.2g} of their size, before anything is rounded; try other "
            "method.rotations, or method=gptq"
        )


def _logits(model: Any) -> "torch.Tensor":
    import torch
    from llmcompressor.utils.dev import get_main_device
    from llmcompressor.utils.helpers import DisableQuantization

    vocabulary = model.get_input_embeddings().weight.shape[0]
    tokens = torch.arange(_TOKENS, device=get_main_device()) * 7919 % vocabulary
    with torch.no_grad(), DisableQuantization(model):
        logits: torch.Tensor = model(input_ids=tokens[None], use_cache=False).logits
    return logits.double().cpu()


def _fuse(norm: Any, linears: list[Any]) -> None:
    """Move what a norm multiplies by into the layers behind it, in float64.

    Raises:
        Refused: It does something else.
    """
    import torch
    from compressed_tensors.utils import align_module_device, update_offload_parameter

    with torch.no_grad(), align_module_device(norm):
        weight = norm.weight.double()
        # Of a vector of ones the root mean square is 1, so what comes out are the factors.
        factors = norm(torch.ones_like(norm.weight)[None])[0].double()
        offset = float((factors - weight).median())
        if min(abs(offset), abs(offset - 1)) > _NEUTRAL:
            raise Refused(
                f"{type(norm).__name__} does more than multiply, so its factors cannot move into "
                "the next layers; try method.rotations=[R2], or method=gptq"
            )
        offset = round(offset)
        scale, neutral = weight + offset, torch.full_like(norm.weight, 1 - offset)
    for linear in linears:
        with torch.no_grad(), align_module_device(linear):
            fused = linear.weight.double() * scale.to(linear.weight.device)
            update_offload_parameter(linear, "weight", fused.to(linear.weight.dtype))
    update_offload_parameter(norm, "weight", neutral)


def _named(derived: Any, base: Any) -> Any:
    """Recipes of llm-compressor know modifiers by their class's name."""
    derived.__name__, derived.__qualname__ = base.__name__, base.__qualname__
    return derived
