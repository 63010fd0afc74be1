"""The published device that this machine has."""

from omegaconf import OmegaConf

from runner.config.schema.hardware import Hardware
from runner.planning.hardware.detect import Machine, recognises
from runner.util.paths import option_files


def published_device(machine: Machine) -> Hardware | None:
    """The device of the hardware table that ``machine`` reports; ``None`` when it lists none."""
    if not machine.gpus:
        return None
    for path in option_files("hardware").values():
        merged = OmegaConf.merge(OmegaConf.structured(Hardware), OmegaConf.load(path))
        hardware = OmegaConf.to_object(merged)
        assert isinstance(hardware, Hardware)
        if not hardware.is_local and recognises(hardware, machine):
            return hardware
    return None
