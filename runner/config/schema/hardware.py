"""A device's limits: published for devices in the table, measured for this machine."""

import re
from dataclasses import dataclass, field
from typing import Optional

from omegaconf import MISSING

from runner.config.bounds import bounded

LOCAL = "local"
"""Name and kind of the machine that the runner runs on."""

_HOST = "PCIe"
_BRIDGE = "bridge"
_BRIDGED = 2
_PCIE_LANE_GIGABYTES_PER_SECOND = {3: 2, 4: 4, 5: 8, 6: 16}
"""Of one lane in both directions, by generation, as vendors round it."""


@dataclass
class Interconnect:
    """How the devices of one machine or rack reach each other."""

    name: Optional[str] = None
    """The fastest link: NVLink4, Infinity Fabric, ICI …; one that ends in ``bridge`` joins cards in
    PCIe slots; ``PCIe`` and its generation, where devices have no link of their own."""
    gigabytes_per_second: Optional[float] = bounded(None, above=True)
    """Of one device to all others, both directions together, as vendors state it."""
    largest_group: Optional[int] = bounded(None, least=1)
    """Most devices that the link connects: 2 for a bridge, 8 for an HGX board, 72 for an NVL72
    rack, 1 for what works alone, as an Apple chip does. Null: as many as a host has slots for."""
    pcie_generation: Optional[int] = bounded(None, least=1)
    """Of the connection to the host; null where there is none, as in a superchip."""
    pcie_lanes: int = bounded(16, least=1)

    @property
    def through_host(self) -> bool:
        """Whether devices reach each other through the host, having no link of their own."""
        return (self.name or "").startswith(_HOST)

    def joins(self, devices: int) -> bool:
        """Whether anything but a network between machines connects so many, as far as is known."""
        group = self.largest_group
        return group is None or devices <= group or self.among(devices).name is not None

    @property
    def has_switch(self) -> bool:
        """Whether the devices share a switch or a network: neither slots nor a bridge of two."""
        return not self.through_host and self.largest_group != _BRIDGED

    def among(self, devices: int) -> "Interconnect":
        """The link that bounds a group: this one or, of more cards than a bridge joins, the host's.

        Args:
            devices: Size of the group.

        Returns:
            A link without a name where none is known: boards and racks of more devices than these
            take a network, which is not in the table.
        """
        if self.largest_group is None or devices <= self.largest_group:
            return self
        if not (self.name or "").endswith(_BRIDGE) or self.pcie_generation is None:
            return Interconnect()
        lane = _PCIE_LANE_GIGABYTES_PER_SECOND.get(self.pcie_generation)
        return Interconnect(
            f"{_HOST}{self.pcie_generation}",
            None if lane is None else float(lane * self.pcie_lanes),
            pcie_generation=self.pcie_generation,
            pcie_lanes=self.pcie_lanes,
        )


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
    """``local`` is this machine, measured; otherwise cuda, rocm, xpu (Intel's GPUs), metal
    (Apple's), gaudi, tpu or trainium."""
    match: Optional[str] = None
    """Part of the name the driver reports, by which the device is recognised."""
    architecture: Optional[str] = None
    """One name for all that run the same kernels: Ampere, Ada, Hopper, Blackwell (Blackwell Ultra
    too), CDNA3 …"""
    compute_capability: Optional[str] = None
    memory_type: Optional[str] = None
    """HBM2e, HBM3, GDDR6X, LPDDR5X …"""
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
    def unknown_limits(self) -> list[str]:
        """Fields without which nothing can be predicted and that are empty."""
        memory = self.memory_gigabytes or self.visible_memory_gibibytes
        found = {
            "memory_gigabytes": memory,
            "memory_bandwidth_gigabytes_per_second": self.memory_bandwidth_gigabytes_per_second,
            "peak_teraflops": self.peak_teraflops,
        }
        return [name for name, value in found.items() if not value]

    @property
    def is_driven(self) -> bool:
        """Whether engines here run on devices of its kind; others are planned where they are named.

        What a plan recommends unasked must be servable: its constants are of kernels for CUDA.
        """
        return self.kind in (LOCAL, "cuda")

    @property
    def generation(self) -> Optional[str]:
        """What measured constants are kept by: the architecture and the family of its memory.

        One architecture comes as a large chip with stacked memory for data centres and as smaller
        ones with graphics memory for workstations and games; their caches, clocks and ratio of
        arithmetic to bandwidth differ. "Ampere HBM" is the A100 and A30, "Ampere GDDR" the A10,
        A40, RTX A6000 and 3090. ``None`` where a file does not say.
        """
        if self.architecture is None or self.memory_type is None:
            return None
        family = re.split(r"\d", self.memory_type)[0].upper()
        return f"{self.architecture} {family}"

    @property
    def is_local(self) -> bool:
        """True for the machine that the runner runs on, whose limits are measured."""
        return self.kind == LOCAL
