"""The hardware table, read from its files without composing a configuration."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path

from runner.config.options import option_files, read_option
from runner.config.schema.hardware import LOCAL, Hardware
from runner.errors import UsageError

ALL = "all"
"""Stands for every device of the table."""
_GROUP = "hardware"


def device_names() -> tuple[str, ...]:
    """Every device of the table, the working directory's own included; ``local`` is none."""
    return tuple(sorted(name for name in option_files(_GROUP) if name != LOCAL))


def read_device(name: str, files: Mapping[str, Path] | None = None) -> Hardware:
    """A device of the table.

    Args:
        name: Of its file.
        files: Of all devices, where they were listed just now.

    Raises:
        UsageError: There is none of that name, or its file is not as the schema says.
    """
    files = option_files(_GROUP) if files is None else files
    if name not in files:
        near = _near(name)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(
            f"plan.devices: there is no {name}; {guess}"
            f"(files in conf/hardware: {', '.join(device_names())})"
        )
    return read_option(_GROUP, name, Hardware, files)


def _near(name: str) -> list[str]:
    """Devices that may have been meant: those that ``name`` is a part of, else the most similar.

    ``h100`` means h100_nvl, h100_pcie or h100_sxm, and ``RTX 5090`` rtx5090.
    """
    known = {re.sub(r"\W|_", "", one): one for one in device_names()}
    asked = re.sub(r"\W|_", "", name.lower())
    parts = [key for key in known if len(asked) > 1 and asked in key]
    return [known[key] for key in parts or difflib.get_close_matches(asked[:100], known, n=3)]


def devices_of(names: list[str], configured: Hardware) -> list[Hardware]:
    """The devices a plan is about.

    Args:
        names: ``plan.devices``.
        configured: The ``hardware`` group.
    """
    files = option_files(_GROUP)
    if names == [ALL]:
        names = list(device_names())
    if names:
        return [
            configured if name == configured.name else read_device(name, files) for name in names
        ]
    if configured.kind != LOCAL:
        return [configured]
    everything = [read_device(name, files) for name in device_names()]
    return [device for device in everything if device.is_driven and device.price.dollars_per_hour]
