"""Share of a device's limits that software reaches: published, until measured here."""

from dataclasses import dataclass

from runner.config.schema.hardware import Hardware
from runner.planning.formats import Format


@dataclass(frozen=True)
class Efficiency:
    """Fractions of bandwidth and of matrix rate that are reached, and how sure that is."""

    bandwidth: float
    """Model bandwidth utilization (MBU) of a decode step."""
    compute: float
    """Model FLOPs utilization (MFU)."""
    spread: float
    """Low and high are expected times, divided and multiplied by 1 + spread."""
    overhead_seconds: float = 0.0
    """A step's time that is neither memory nor arithmetic."""
    source: str = ""
    cache_bandwidth: float = 0.71
    """Fraction of the bandwidth at which the KV cache is read: in 16 bits, whatever the weights."""
    overlaps: bool = True
    """Memory and arithmetic go on at once, as the roofline has it; else their times add up."""


_SPREAD = 0.25
_COMPUTE = 0.50
_VLLM = "prior: vLLM at batch 1, arXiv 2411.02355"
_COMPUTE_SOURCE = "prefill 0.45-0.55 (TensorRT-LLM's and that paper's figures)"


def prior(fmt: Format, hardware: Hardware) -> Efficiency:
    """Published efficiency for a format's kernels on a device.

    16 bits: 70B on 2xA100 takes 49.5 ms, 69% of the bandwidth with two all-reduces a layer;
    without those 71%. 8 bits: 53.0 ms on one A100 and 32.0 ms on one H100 (66%). 4 bits:
    34.2 ms on one A100 (54%), 27.9 ms on one H100 (40%): unpacking becomes the limit.
    LLM.int8(): 154.6 ms where fp16 took 32.9 ms on one RTX 3090.
    """
    if fmt.bandwidth_share is not None:
        return Efficiency(fmt.bandwidth_share, _COMPUTE, _SPREAD, source=fmt.bandwidth_source)
    if fmt.prior_bits == 16:
        bandwidth = 0.71
    elif fmt.prior_bits == 8:
        bandwidth = 0.66
    else:
        bandwidth = 0.40 if _generation(hardware) >= 9 else 0.54
    return Efficiency(bandwidth, _COMPUTE, _SPREAD, source=f"{_VLLM}; {_COMPUTE_SOURCE}")


def _generation(hardware: Hardware) -> float:
    """Compute capability as a number; devices without one count as the oldest."""
    try:
        return float(hardware.compute_capability or 0)
    except ValueError:
        return 0.0
