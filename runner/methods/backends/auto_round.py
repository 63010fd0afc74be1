"""AutoRound through its own library (auto-round 0.15.1), and llm-compressor's use of it."""

import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from runner.data.models.kept_dtypes import KeptDtypes
from runner.data.models.load import load_model
from runner.data.models.weights import weight_files
from runner.errors import Refused
from runner.methods.backends import llm_compressor, packed
from runner.methods.base import Capabilities, Holder, Onloading, Progress, QuantizeJob
from runner.methods.holders import matrices_by_holder, skeleton
from runner.util.bars import bars_told

NAME = "auto_round"
_EXPORTS = {"auto_round": "auto_round", "gptq": "auto_gptq", "awq": "auto_awq"}
"""What the library calls the formats."""
_ITS_OWN = Capabilities(
    bits=("w4a16", "w8a16", "w3a16", "w2a16"),
    group_sizes=("per_channel", "g*"),
    checkpoint_format="auto-round",
    packages=("auto-round", "transformers", "torch"),
    holders=(Holder.linear, Holder.linear_subclass, Holder.conv1d),
    # It caches them as one tensor of windows, and drops those shorter than it was told.
    against_unequal_windows="AutoRound drops calibration windows that are shorter than others",
    onloading=Onloading(activations=True),
)
CAPABILITIES = replace(
    _ITS_OWN,
    variants=MappingProxyType(
        {
            ("format", "gptq"): replace(
                _ITS_OWN,
                checkpoint_format="gptq",
                # It stores zero points less one, and of zero that overwrites the next ones.
                cannot=(("sym", False, "writes GPTQ's packing for symmetric grids only"),),
            ),
            ("format", "awq"): replace(
                _ITS_OWN,
                checkpoint_format="awq",
                bits=("w4a16",),
                cannot=(("sym", True, "writes AWQ's packing for grids with a zero point only"),),
            ),
        }
    ),
)


def quantize(
    job: QuantizeJob, *, sym: bool, format: str, iters: int, lr: float | None, batch_size: int
) -> None:
    """Write a checkpoint of one of the library's formats.

    Args:
        job: What to quantize.
        sym: A grid symmetric around zero.
        format: ``auto_round``, ``gptq`` or ``awq``.
        iters: Steps for each block.
        lr: Step of a rounding offset; ``None`` is the library's default.
        batch_size: Windows in each step.
    """
    import torch
    from auto_round import AutoRound
    from auto_round.algorithms.quantization.sign_round.config import SignRoundConfig

    _require_linear_experts(job)
    model = load_model(
        job.model_directory,
        dtype=getattr(torch, job.compute_dtype),
        trust_remote_code=job.trust_remote_code,
    )
    ignored = packed.ignored_layers(model, job.recipe.method.ignore)
    names = {module: name for name, module in model.named_modules()}
    biases = {f"{name}.bias" for one, name in names.items() if getattr(one, "bias", 0) is None}
    rounding = SignRoundConfig(
        iters=iters,
        lr=lr,
        bits=job.recipe.bits.weight.num_bits,
        group_size=packed.group_size(job),
        sym=sym,
        data_type="int",
    )
    work = AutoRound(
        model,
        tokenizer="",  # windows are token ids already
        scheme="W4A16",  # of which all is stated above
        alg_configs=rounding,
        layer_config={name: {"bits": 16} for name in ignored} or None,
        dataset=_batches(job.windows),
        nsamples=len(job.windows),
        seqlen=min(map(len, job.windows)),
        batch_size=min(batch_size, len(job.windows)),
        amp=job.compute_dtype != "float32",
        device_map=job.device,
        enable_torch_compile=False,
    )
    saved = job.scratch / "saved"
    job.progress(0, model.config.get_text_config().num_hidden_layers, _LEARNING)
    with bars_told(_progress_of(job.progress)):
        work.quantize_and_save(str(saved), format=_EXPORTS[format], inplace=True)
    (config_file,) = saved.rglob("config.json")
    stated = json.loads(config_file.read_text("utf-8"))["quantization_config"]
    packed.write_checkpoint(
        job,
        {k: v for k, v in _tensors(config_file.parent).items() if k not in biases},
        _stated(stated, ignored),
    )


def modifier(job: QuantizeJob, *, iters: int, lr: float | None, batch_size: int) -> Any:
    """llm-compressor's ``AutoRoundModifier``, which calls the library for each block.

    It has no setting for the arithmetic: the library would compute in bfloat16 on a CPU. Scales
    are learnt in the type that they are stored in.
    """
    import torch
    from llmcompressor.modifiers.autoround import AutoRoundModifier, base

    scales = str(KeptDtypes(job.model_directory).usual).removeprefix("torch.")

    class Modifier(AutoRoundModifier):  # type: ignore[misc]
        def apply_autoround(self, state: Any, modules: Any) -> None:
            with _library_called(base, amp=job.compute_dtype != "float32", scale_dtype=scales):
                super().apply_autoround(state, modules)

        # The base class looks for targets by their names in the model among those in a block, where
        # no layer is called so: it would round all layers, those left alone too, in the first
        # group's bits.
        def _match_autoround_targets(self, model: Any) -> Any:
            return {one for one in model.modules() if _scheme_of(one) is not None}

        def get_unquantized_layer_names(self, wrapped_model: Any) -> list[str]:
            return [
                name
                for name, one in wrapped_model.named_modules()
                if isinstance(one, torch.nn.Linear) and _scheme_of(one) is None
            ]

    # Recipes of llm-compressor know modifiers by their class's name.
    Modifier.__name__, Modifier.__qualname__ = (AutoRoundModifier.__name__,) * 2
    return Modifier(
        **llm_compressor.build_groups(job, sym=True, observer="memoryless_minmax"),
        iters=iters,
        lr=lr,
        batch_size=min(batch_size, len(job.windows)),
        enable_torch_compile=False,
    )


def _scheme_of(module: Any) -> Any:
    return getattr(module, "quantization_scheme", None)


_LEARNING = "learning to round blocks"


@contextlib.contextmanager
def _library_called(module: Any, **settings: Any) -> Iterator[None]:
    own = module.AutoRound
    module.AutoRound = functools.partial(own, **settings)
    try:
        yield
    finally:
        module.AutoRound = own


def _require_linear_experts(job: QuantizeJob) -> None:
    """Refuse fused experts, which the library takes apart under names that nobody reads."""
    counts = matrices_by_holder(skeleton(job.model_directory, job.trust_remote_code))
    if kinds := sorted(name for name, holder in counts if holder is Holder.experts):
        raise Refused(
            f"transformers would not find the experts that AutoRound takes out of {kinds[0]}; try "
            "method.backend=llm_compressor, or method=gguf"
        )


def _batches(windows: list[list[int]]) -> list[dict[str, Any]]:
    import torch

    return [
        {"input_ids": torch.tensor([w]), "attention_mask": torch.ones(1, len(w), dtype=torch.long)}
        for w in windows
    ]


def _progress_of(progress: Progress) -> Callable[[str, int, int], None]:
    """Tell blocks as the library's bars do; it has no callback."""

    def tell(bar: str, done: int, total: int) -> None:
        if re.match(r"Quantizing ", bar):
            progress(done, total, _LEARNING)
        elif bar == "packing":
            progress(done, total, "packing weights")

    return tell


def _tensors(directory: Any) -> dict[str, Any]:
    from safetensors.torch import load_file

    tensors: dict[str, Any] = {}
    for path in weight_files(directory):
        tensors |= load_file(path)
    return tensors


def _stated(config: dict[str, Any], ignored: list[str]) -> dict[str, Any]:
    """The library's ``quantization_config``, with layers that were left as its readers see them."""
    if config["quant_method"] == "gptq":
        dense = {"dynamic": packed.skipping(ignored)} if ignored else {}
        return {**config, "checkpoint_format": "gptq", **dense}
    if config["quant_method"] == "awq":
        return {**config, "modules_to_not_convert": ignored or None}
    return config
