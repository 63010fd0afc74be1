"""This machine as a device of a plan, with its measured limits."""

import json
from pathlib import Path
from typing import Any

from runner.config.schema.hardware import LOCAL, Hardware
from runner.planning.devices import device_names, read_device
from runner.planning.hardware.detect import Machine, recognises


def local_device(machine: Machine, device: str, store: Path) -> Hardware | None:
    """This machine, or ``None`` while the store holds no measurement of it.

    Formats that the machine emulates, slower than fp32, are none that it has. A GPU that the
    table knows brings its price and link along.
    """
    measured = _newest_measurement(store, device)
    if measured is None:
        return None
    listed = next(
        (one for name in device_names() if recognises(one := read_device(name), machine)), None
    )
    peaks: dict[str, float] = measured["peak_teraflops"]
    least = peaks.get("fp32", 0.0)
    peaks = {name: rate for name, rate in peaks.items() if rate >= least}
    on_gpu = device != "cpu" and bool(machine.gpus)
    memory = (machine.gpus[0].memory_bytes if on_gpu else None) or machine.memory_bytes
    local = Hardware(
        name=LOCAL,
        kind=LOCAL,
        memory_gigabytes=memory / 1e9,
        visible_memory_gibibytes=memory / 2**30,
        memory_bandwidth_gigabytes_per_second=measured["bandwidth_bytes_per_second"] / 1e9,
        peak_teraflops=peaks,
        native_formats=list(peaks),
        source="measured",
    )
    if listed is not None and on_gpu:
        local.interconnect, local.price = listed.interconnect, listed.price
        local.compute_capability = listed.compute_capability
    return local


def measured_peaks(store: Path, device: str) -> dict[str, float]:
    """Measured matrix rates in teraflops by format; empty while there is no measurement."""
    measured = _newest_measurement(store, device)
    return dict(measured["peak_teraflops"]) if measured else {}


def _newest_measurement(store: Path, device: str) -> dict[str, Any] | None:
    paths = sorted(
        (store / "objects" / "hardware").glob("*/result.json"),
        key=lambda path: path.stat().st_mtime_ns,
        reverse=True,
    )
    for path in paths:
        result: dict[str, Any] = (_parsed(path) or {}).get("result") or {}
        if result.get("device") == device and "bandwidth_bytes_per_second" in result:
            return result
    return None


def _parsed(path: Path) -> dict[str, Any] | None:
    """Content of a result's file; ``None`` where it is damaged, which its next reuse tells."""
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content
