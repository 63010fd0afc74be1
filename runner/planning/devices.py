"""The hardware table, read from ``conf/hardware`` without composing a configuration."""

import functools
from pathlib import Path

from runner.config.hardware import Hardware
from runner.errors import UsageError
from runner.paths import conf_dir

LOCAL = "local"


@functools.cache
def device_names() -> tuple[str, ...]:
    """Every device of the table, the working directory's own included; ``local`` is none."""
    return tuple(sorted(name for name in _files() if name != LOCAL))


def _files() -> dict[str, Path]:
    folders = (conf_dir() / "hardware", Path.cwd() / "conf" / "hardware")
    return {path.stem: path for folder in folders for path in folder.glob("*.yaml")}


def read_device(name: str) -> Hardware:
    """A device of the table.

    Raises:
        UsageError: There is none of that name, or its file is not as the schema says.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = _files().get(name)
    if path is None:
        raise UsageError(
            f"plan.devices: there is no {name}; a device is a file in conf/hardware: "
            + ", ".join(device_names())
        )
    try:
        loaded = OmegaConf.merge(OmegaConf.structured(Hardware), OmegaConf.load(path))
        device = OmegaConf.to_object(loaded)
    except OmegaConfBaseException as error:
        raise UsageError(f"{path}: {str(error).splitlines()[0]}") from None
    assert isinstance(device, Hardware)
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
