"""Looks this machine up among published devices."""

from runner.config.options import option_files, read_option
from runner.config.schema.hardware import Hardware
from runner.planning.hardware.detect import Machine, recognises


def published_device(machine: Machine) -> Hardware | None:
    """The device of the hardware table that ``machine`` reports; ``None`` when it lists none."""
    if not machine.gpus:
        return None
    for name in option_files("hardware"):
        hardware = read_option("hardware", name, Hardware)
        if not hardware.is_local and recognises(hardware, machine):
            return hardware
    return None
