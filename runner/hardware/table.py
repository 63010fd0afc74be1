"""The published device that this machine has."""

from pathlib import Path

from omegaconf import OmegaConf

from runner.config.hardware import Hardware
from runner.hardware.detect import Machine, recognises
from runner.paths import conf_dir


def published_device(machine: Machine) -> Hardware | None:
    """The device of the hardware table that ``machine`` reports; ``None`` when it lists none."""
    if not machine.gpus:
        return None
    for folder in (Path.cwd() / "conf", conf_dir()):
        for path in sorted((folder / "hardware").glob("*.yaml")):
            merged = OmegaConf.merge(OmegaConf.structured(Hardware), OmegaConf.load(path))
            hardware = OmegaConf.to_object(merged)
            assert isinstance(hardware, Hardware)
            if hardware.kind != "local" and recognises(hardware, machine):
                return hardware
    return None
