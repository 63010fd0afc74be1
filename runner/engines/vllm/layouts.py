"""Layouts of checkpoints that the runner's methods write, as ``quantization_config`` tells them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

GROUPS = (16, 32, 64, 128, 256, 512)
"""Sizes of groups that vLLM is asked about."""
BLOCKS = (64, 128)
"""Sides of the squares of weights that share a scale."""
WIDTHS = (2, 3, 4, 5, 6, 7, 8)
ALGORITHMS = {
    ("fp8_e4m3", "per_tensor"): "FP8",
    ("fp8_e4m3", "per_channel"): "FP8_PER_CHANNEL_PER_TOKEN",
    ("fp8_e4m3", "b128"): "FP8_PB_WO",
    ("fp8_e4m3", "g32"): "MXFP8",
    ("fp4", "g16"): "W4A16_NVFP4",
    ("fp4_a4", "g16"): "NVFP4",
    ("w8a16", "per_channel"): "W8A16",
    ("w8a8", "per_channel"): "W8A8_SQ_PER_CHANNEL",
    **{("w4a16", f"g{size}"): "W4A16_AWQ" for size in GROUPS},
}
"""ModelOpt's names (``quant_algo``) by label of the bits and of the group size."""
_NVFP4 = 16
_FORMATS_OF_FLOATS = {16: "nvfp4-pack-quantized", 32: "mxfp4-pack-quantized"}


@dataclass(frozen=True)
class Layout:
    """One layout, by the words that configurations use."""

    format: str
    """See ``CheckpointFacts.format``."""
    bits: str
    """Label of the bits scheme."""
    group_size: str
    """Label of the group size."""
    zero_points: bool = False
    kv_cache: bool = False
    """Whether the checkpoint asks for keys and values in 8-bit floats."""

    @property
    def row(self) -> str:
        """What the table calls its row."""
        return row_of(self.bits, self.zero_points, self.kv_cache)

    def quantization_config(self) -> dict[str, Any]:
        """What such a checkpoint's config.json says."""
        if self.format == "gptq":
            return {
                "quant_method": "gptq",
                "bits": int(self.bits[1]),
                "group_size": self._size or -1,
                "sym": not self.zero_points,
                "desc_act": False,
                "checkpoint_format": "gptq",
            }
        if self.format == "awq":
            return {
                "quant_method": "awq",
                "bits": int(self.bits[1]),
                "group_size": self._size or -1,
                "zero_point": self.zero_points,
                "version": "gemm",
                "modules_to_not_convert": None,
            }
        if self.format == "auto-round":
            return self._auto_round()
        if self.format == "modelopt":
            algorithm = ALGORITHMS[self.bits, self.group_size]
            return {"quant_method": "modelopt", "quant_algo": algorithm, "ignore": ["lm_head"]}
        return self._compressed_tensors()

    @property
    def _size(self) -> int | None:
        return int(self.group_size[1:]) if self.group_size.startswith("g") else None

    @property
    def _block(self) -> int | None:
        return int(self.group_size[1:]) if self.group_size.startswith("b") else None

    def _auto_round(self) -> dict[str, Any]:
        """As the library packs them: like GPTQ, 4 bits with zero points like AWQ, else its own."""
        width = int(self.bits[1])
        packing = ":auto_gptq" if not self.zero_points else ":auto_awq" if width == 4 else ""
        return {
            "quant_method": "auto-round",
            "bits": width,
            "group_size": self._size or -1,
            "sym": not self.zero_points,
            "data_type": "int",
            "packing_format": f"auto_round{packing}",
            "block_name_to_quantize": "model.layers",
        }

    def _compressed_tensors(self) -> dict[str, Any]:
        floats = self.bits.startswith("fp")
        weights: dict[str, Any] = {
            "num_bits": int(self.bits[2 if floats else 1]),
            "type": "float" if floats else "int",
            "symmetric": not self.zero_points,
            "strategy": "group" if self._size else self.group_size.removeprefix("per_"),
            "group_size": self._size,
            "dynamic": False,
        }
        if self._block:
            weights |= {"strategy": "block", "block_structure": [self._block] * 2}
        elif floats and self._size == _NVFP4:
            weights |= {"strategy": "tensor_group", "scale_dtype": "torch.float8_e4m3fn"}
        elif floats and self._size:
            weights |= {"scale_dtype": "torch.uint8"}
        form = self._form()
        scheme = {
            "targets": ["Linear"],
            "weights": weights,
            "input_activations": self._activations(weights),
            "output_activations": None,
            "format": form,
        }
        cache = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True}
        return {
            "quant_method": "compressed-tensors",
            "quantization_status": "compressed",
            "format": form,
            "config_groups": {"group_0": scheme},
            "ignore": ["lm_head"],
            "kv_cache_scheme": {**cache, "dynamic": False} if self.kv_cache else None,
        }

    def _form(self) -> str:
        """What compressed-tensors calls the way of storing them."""
        if self.bits.startswith("fp4"):
            return _FORMATS_OF_FLOATS[self._size or 0]
        if self.bits.startswith("fp"):
            if self._size:
                return "mxfp8-quantized"
            return "naive-quantized" if self.bits.endswith("a16") else "float-quantized"
        return "int-quantized" if self.bits == "w8a8" else "pack-quantized"

    def _activations(self, weights: dict[str, Any]) -> dict[str, Any] | None:
        """How activations are rounded; ``None``: not at all."""
        if self.bits.endswith("a16") or self.bits == "fp4":
            return None
        if self.bits.startswith("fp") and self._block:
            blocks = {"strategy": "group", "group_size": self._block, "block_structure": None}
            return {**weights, **blocks, "dynamic": True}
        if self.bits.startswith("fp") and self._size:
            return {**weights, "dynamic": "local" if self._size == _NVFP4 else True}
        own = {"num_bits": 8, "type": "float"} if "_" in self.bits else {}
        if not own:
            own = {"num_bits": int(self.bits[-1]), "type": "int"}
        token = {"strategy": "token", "symmetric": True, "group_size": None, "dynamic": True}
        return {**weights, **own, **token}


def row_of(bits: str, zero_points: bool = False, kv_cache: bool = False) -> str:
    """What tables call a scheme; it begins with the label of its bits."""
    cache = " and an fp8 KV cache" if kv_cache else ""
    return f"{bits}{' with zero points' if zero_points else ''}{cache}"


_CHANNELS_AND_GROUPS = ("per_channel", *(f"g{size}" for size in GROUPS))


def layouts() -> Iterator[Layout]:
    """Every layout that is asked about."""
    groups = _CHANNELS_AND_GROUPS
    for width in WIDTHS:
        for size in ("per_tensor", *groups):
            for zero_points in (False, True):
                yield Layout("compressed-tensors", f"w{width}a16", size, zero_points)
    for size in ("per_tensor", *groups):
        yield Layout("compressed-tensors", "w8a8", size)
    yield Layout("compressed-tensors", "w8a8", "per_channel", zero_points=True)
    yield from _narrower()
    for form in ("gptq", "auto-round"):
        for width in (2, 3, 4, 8):
            for size in groups:
                for zero_points in (False, True):
                    yield Layout(form, f"w{width}a16", size, zero_points)
    for size in groups:
        yield Layout("awq", "w4a16", size, zero_points=True)
    for bits, size in ALGORITHMS:
        yield Layout("modelopt", bits, size)


def _narrower() -> Iterator[Layout]:
    """Floats of 8 and 4 bits, and integers that meet activations of fewer bits."""
    for bits in ("w4a8", "w4a4", "w4a_fp8_e4m3"):
        for size in _CHANNELS_AND_GROUPS:
            for zero_points in (False, True):
                yield Layout("compressed-tensors", bits, size, zero_points)
    for size in ("per_tensor", "per_channel", "g32", *(f"b{side}" for side in BLOCKS)):
        for bits in ("fp8_e4m3", "fp8_e4m3_a16"):
            yield Layout("compressed-tensors", bits, size)
    yield Layout("compressed-tensors", "fp8_e4m3", "per_channel", kv_cache=True)
    yield Layout("compressed-tensors", "fp8_e4m3", "per_tensor", kv_cache=True)
    for size in ("g16", "g32"):
        yield Layout("compressed-tensors", "fp4", size)
        yield Layout("compressed-tensors", "fp4_a4", size)
