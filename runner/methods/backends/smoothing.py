"""llm-compressor's AWQ and SmoothQuant, for models whose layers they recognize.

Both scale the inputs of some layers and take it back in the layer before, after tables of names.
For a model that no table fits they stop with a traceback, or scale nothing without a word.
"""

from typing import Any

from runner.config.schema.group_size import Granularity
from runner.errors import Refused
from runner.methods.backends import autoawq
from runner.methods.base import QuantizeJob
from runner.methods.holders import skeleton

_BEFORE_ATTENTION = "re:.*input_layernorm$"
_BEFORE_MLP = "pre_feedforward_layernorm"


def awq_modifier(**options: Any) -> Any:
    """An ``AWQModifier``, which keeps what it is calibrated on in the machine's memory."""
    import torch
    from llmcompressor.modifiers.transform.awq import AWQModifier

    class Modifier(AWQModifier):  # type: ignore[misc]
        def _set_resolved_mappings(self, model: Any) -> None:
            try:
                super()._set_resolved_mappings(model)
            except ValueError as error:
                raise _refusal("AWQ", model, error) from error
            if not self._resolved_mappings:
                raise _refusal("AWQ", model, "no layer's input would be scaled")

    return _named(Modifier, AWQModifier)(offload_device=torch.device("cpu"), **options)


def require_whole_blocks(job: QuantizeJob) -> None:
    """See that AWQ, which compares weights within blocks, finds whole ones.

    Raises:
        Refused: The side of the blocks does not divide some layer's outputs.
    """
    side = job.recipe.group_size.size
    if job.recipe.group_size.granularity is not Granularity.block or side is None:
        return
    model = skeleton(job.model_directory, job.trust_remote_code)
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        outputs = getattr(module, "out_features", None)
        if outputs is not None and module is not head and outputs % side:
            raise Refused(
                f"AWQ compares weights within whole blocks, but {name} has {outputs} outputs, no "
                f"multiple of {side}; try method=gptq or method=rtn, or a smaller block such as "
                "group_size=b64"
            )


def smoothquant_modifier(**options: Any) -> Any:
    """A ``SmoothQuantModifier``."""
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
    from llmcompressor.modifiers.transform.smoothquant.utils import LayerMap

    class Modifier(SmoothQuantModifier):  # type: ignore[misc]
        def _resolve_mappings(self, model: Any) -> Any:
            # Its table has Llama's names for Gemma 2 and 3, whose norm of that name lies elsewhere.
            if any(name.endswith(_BEFORE_MLP) for name, _ in model.named_modules()):
                self.mappings = [
                    LayerMap(["re:.*q_proj$", "re:.*k_proj$", "re:.*v_proj$"], _BEFORE_ATTENTION),
                    LayerMap(["re:.*gate_proj$", "re:.*up_proj$"], f"re:.*{_BEFORE_MLP}$"),
                ]
            try:
                mappings = super()._resolve_mappings(model)
            except (RuntimeError, ValueError) as error:
                raise _refusal("SmoothQuant", model, error.__cause__ or error) from error
            if not mappings:
                raise _refusal("SmoothQuant", model, "no layer's input would be scaled")
            return mappings

    return _named(Modifier, SmoothQuantModifier)(**options)


def _named(derived: Any, base: Any) -> Any:
    """Recipes of llm-compressor know modifiers by their class's name."""
    derived.__name__, derived.__qualname__ = base.__name__, base.__qualname__
    return derived


def _refusal(method: str, model: Any, cause: object) -> Refused:
    others = "method=gptq or method=rtn"
    if autoawq.model_refusal(model.config.get_text_config().to_dict()) is None:
        others += ", or method=awq method.backend=autoawq"
    return Refused(
        f"llm-compressor's {method} has no table of layers that fits {type(model).__name__} "
        f"({str(cause).splitlines()[0]}); try {others}"
    )
