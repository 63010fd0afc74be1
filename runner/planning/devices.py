"""The hardware table, read from its files without composing a configuration."""

import copy
import functools
from pathlib import Path

from runner.config.bounds import faults
from runner.config.schema.hardware import LOCAL, Hardware
from runner.errors import UsageError
from runner.util.paths import option_files

_GROUP = "hardware"


def device_names() -> tuple[str, ...]:
    """Every device of the table, the working directory's own included; ``local`` is none."""
    return tuple(sorted(name for name in option_files(_GROUP) if name != LOCAL))


def read_device(name: str) -> Hardware:
    """A device of the table.

    Raises:
        UsageError: There is none of that name, or its file is not as the schema says.
    """
    path = option_files(_GROUP).get(name)
    if path is None:
        raise UsageError(
            f"plan.devices: there is no {name}; a device is a file in conf/hardware: "
            + ", ".join(device_names())
        )
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    return copy.deepcopy(_read(path, changed))


@functools.lru_cache(maxsize=256)
def _read(path: Path, changed: int) -> Hardware:
    """What a file says, as it was when it last ``changed``: a sweep asks for each device a run."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from runner.util.yaml_files import load

    try:
        loaded = OmegaConf.merge(OmegaConf.structured(Hardware), load(path))
        device = OmegaConf.to_object(loaded)
    except (OmegaConfBaseException, OSError, ValueError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).splitlines()[:2])}") from None
    assert isinstance(device, Hardware)
    if wrong := next(faults(device), None):
        raise UsageError(f"{path}: {wrong}")
    return device


def devices_of(names: list[str], configured: Hardware) -> list[Hardware]:
    """The devices a plan is about.

    Args:
        names: ``plan.devices``.
        configured: The ``hardware`` group.
    """
    if names == ["all"]:
        names = list(device_names())
    if names:
        return [configured if name == configured.name else read_device(name) for name in names]
    if configured.kind != LOCAL:
        return [configured]
    everything = [read_device(name) for name in device_names()]
    return [device for device in everything if device.price.dollars_per_hour is not None]
