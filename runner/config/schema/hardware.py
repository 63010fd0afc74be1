"""A device's limits: published for devices in the table, measured for this machine."""

from dataclasses import dataclass, field
from typing import Optional

from omegaconf import MISSING

from runner.config.bounds import bounded

LOCAL = "local"
"""Name and kind of the machine that the runner runs on."""


@dataclass
class Interconnect:
    """The link between devices of one node."""

    name: Optional[str] = None
    gigabytes_per_second: Optional[float] = bounded(None, above=True)


@dataclass
class Price:
    """What an hour of one device costs, and when and where that was read."""

    dollars_per_hour: Optional[float] = None
    date: Optional[str] = None
    source: Optional[str] = bounded(None, prose=True)


@dataclass
class Hardware:
    """One device. Sizes are decimal: 1 gigabyte is 1e9 bytes, as vendors count."""

    name: str = MISSING
    kind: str = MISSING
    """``local`` is this machine, measured; otherwise cuda, rocm, gaudi or tpu."""
    match: Optional[str] = None
    """Part of the name the driver reports, by which the device is recognised."""
    architecture: Optional[str] = None
    compute_capability: Optional[str] = None
    memory_gigabytes: Optional[float] = bounded(None, above=True)
    visible_memory_gibibytes: Optional[float] = bounded(None, above=True)
    """Memory that programs see (``torch.cuda.get_device_properties``). Devices sold with 80 GB show
    79 GiB, which is 85e9 bytes; those with error correction in ordinary memory show an eighth less
    than their nominal size."""
    memory_bandwidth_gigabytes_per_second: Optional[float] = bounded(None, above=True)
    peak_teraflops: dict[str, float] = bounded(factory=dict, above=True)
    """Dense matrix peak by format (fp32, tf32, fp16, bf16, fp8, int8, int4, fp4)."""
    native_formats: list[str] = field(default_factory=list)
    """Formats with dedicated matrix units."""
    interconnect: Interconnect = field(default_factory=Interconnect)
    power_watts: Optional[float] = bounded(None, above=True)
    price: Price = field(default_factory=Price)
    source: Optional[str] = bounded(None, prose=True)

    @property
    def is_local(self) -> bool:
        """True for the machine that the runner runs on, whose limits are measured."""
        return self.kind == LOCAL
