"""This machine as a device of a plan, with its measured limits."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from runner.config.schema.hardware import LOCAL, Hardware
from runner.planning.devices import device_names, read_device
from runner.planning.hardware.detect import Machine, recognises
from runner.store.provenance import read_seal


def machine_key(host: dict[str, Any], device: str) -> str:
    """What of a machine decides its speed, as a short text.

    Args:
        host: Description of a machine with the GPUs in use, as ``Machine.to_dict`` gives it.
        device: ``cpu`` or ``cuda``.
    """
    gpus = host.get("gpus")
    if device == "cpu" or not gpus:
        return f"{host.get('cpu_name')}, {host.get('usable_cores')} cores"
    counts = Counter(str(gpu.get("name")) for gpu in gpus)
    return " + ".join(name if n == 1 else f"{n} x {name}" for name, n in counts.items())


def local_device(machine: Machine, device: str, store: Path) -> Hardware | None:
    """This machine, or ``None`` while the store holds no measurement of it.

    Formats that the machine emulates, slower than fp32, are none that it has. A GPU that the
    table knows brings its price and link along; of one that it does not know, devices of the same
    compute capability tell the generation.

    Args:
        machine: With the GPUs in use, of which the first stands for all.
        device: ``cpu`` or ``cuda``.
        store: Root of the store that holds measurements.
    """
    machine = machine.using(machine.gpus[:1])
    measured = _newest_measurement(store, machine_key(machine.to_dict(), device), device)
    if measured is None:
        return None
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
    if on_gpu:
        _complete(local, machine)
    return local


def _complete(local: Hardware, machine: Machine) -> None:
    """Add what the table knows of the machine's first GPU to what was measured."""
    table = [read_device(name) for name in device_names()]
    local.compute_capability = machine.gpus[0].compute_capability
    listed = next((one for one in table if recognises(one, machine)), None)
    if listed is not None:
        local.interconnect, local.price = listed.interconnect, listed.price
    same = (one for one in table if one.compute_capability == local.compute_capability)
    if alike := listed or next(same, None):
        local.architecture, local.memory_type = alike.architecture, alike.memory_type


def measured_peaks(store: Path, machine: str, device: str) -> dict[str, float]:
    """Measured matrix rates in teraflops by format; empty while there is no measurement.

    Args:
        store: Its root.
        machine: See ``machine_key``.
        device: ``cpu`` or ``cuda``.
    """
    measured = _newest_measurement(store, machine, device)
    return dict(measured["peak_teraflops"]) if measured else {}


def _newest_measurement(store: Path, machine: str, device: str) -> dict[str, Any] | None:
    """Of this kind of machine: a store may be shared with others."""
    paths = sorted(
        (store / "objects" / "hardware").glob("*/result.json"),
        key=lambda path: path.stat().st_mtime_ns,
        reverse=True,
    )
    for path in paths:
        result: dict[str, Any] = (_parsed(path) or {}).get("result") or {}
        if result.get("device") != device or "bandwidth_bytes_per_second" not in result:
            continue
        if _measured_on(path.parent, device) == machine:
            return result
    return None


def _measured_on(directory: Path, device: str) -> str | None:
    """Key of the machine that a measurement is of; ``None`` where its seal does not say."""
    try:
        seal = read_seal(directory)
    except (OSError, ValueError, TypeError):
        return None
    host = seal.determinants.get("machine") if seal is not None else None
    return machine_key(host, device) if isinstance(host, dict) else None


def _parsed(path: Path) -> dict[str, Any] | None:
    """Content of a result's file; ``None`` where it is damaged, which its next reuse tells."""
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content
