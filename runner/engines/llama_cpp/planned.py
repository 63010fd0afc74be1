"""What llama.cpp serves on devices that are not at hand."""

from runner.engines.planned import FLOATS, Place, Reads, Weights

_BACKENDS = {"cuda": "CUDA", "rocm": "HIP", "xpu": "SYCL", "metal": "Metal"}
"""Its backends by kind of device (llama.cpp's docs/build.md, b11413)."""


def reads(weights: Weights, place: Place) -> Reads:
    """Whether llama.cpp serves weights on a device."""
    if place.kind not in _BACKENDS:
        return Reads(False, f"llama.cpp has no backend for {place.kind}")
    if weights.scheme == "gguf" or weights.scheme in FLOATS:
        return Reads(True)
    # As gpt-oss is published in GGUF: https://huggingface.co/ggml-org/gpt-oss-120b-GGUF
    if (weights.scheme, weights.group, weights.only_experts) == ("fp4", "g32", True):
        return Reads(True)
    return Reads(False, "llama.cpp reads GGUF files alone")
