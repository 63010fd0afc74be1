"""What vLLM serves on devices that are not at hand, by its tables and by its source."""

import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass

from runner.engines.planned import FLOATS, Place, Reads, Weights
from runner.engines.vllm.layouts import GROUPS, row_of
from runner.engines.vllm.tables import PINNED, SHIPPED, Table, is_of_weights_alone, table_for

_BY_HAND = SHIPPED / "by_hand.csv"
_FORMATS = ("compressed-tensors", "gptq", "awq", "auto-round", "modelopt")
_NAMED = f"vLLM {PINNED}"
_NO_READER = {
    "gguf": "reads no GGUF files",
    "nf4": "has no bitsandbytes",
    "llm_int8": "has no bitsandbytes",
}
"""Schemes of which its list of quantization methods has none, whatever the device."""
_GROUPS = ("per_channel", "per_tensor", *(f"g{size}" for size in GROUPS))
"""What it was asked about."""
BFLOAT16_SINCE = 8.0
"""Compute capability."""


@dataclass(frozen=True)
class Row:
    """A line of what was read by hand."""

    kind: str
    since: str
    scheme: str
    groups: tuple[str, ...]
    where: str
    reads: str
    note: str

    def fits(self, weights: Weights, place: Place, where: str) -> bool:
        """Whether it is about such weights in such a part of a model on such a device."""
        if self.kind != place.kind or self.scheme != weights.scheme:
            return False
        if self.where not in (where, "all") or not {"*", weights.group} & {*self.groups}:
            return False
        capability = place.compute_capability or ""
        if not self.since:
            return True
        if self.since[0].isdigit():
            return bool(capability) and float(capability) >= float(self.since)
        return capability.startswith(self.since)


def reads(weights: Weights, place: Place) -> Reads:
    """Whether vLLM, as it is pinned, serves weights on a device."""
    if (absent := _NO_READER.get(weights.scheme)) is not None:
        return Reads(False, f"{_NAMED} {absent}")
    parts = ("experts",) if weights.only_experts else ("dense", "experts")
    answers = [_part(weights, place, part) for part in parts[: 2 if weights.experts else 1]]
    for verdict in (False, None):
        if (worst := next((a for a in answers if a.yes is verdict), None)) is not None:
            return worst
    return next((answer for answer in answers if answer.said or answer.widens), answers[0])


def _part(weights: Weights, place: Place, where: str) -> Reads:
    """Of linear layers (``dense``) or of experts."""
    row = next((row for row in rows() if row.fits(weights, place, where)), None)
    if row is not None:
        return _answer(row, weights, place)
    table = table_for(None, place.compute_capability) if place.kind == "cuda" else None
    if table is None or place.compute_capability is None:
        return Reads(None, f"it is not known whether vLLM reads {weights.text} on {place.text}")
    return _from_table(table, weights, place, where)


def _answer(row: Row, weights: Weights, place: Place) -> Reads:
    note = f" ({row.note})" if row.note else ""
    if row.reads in ("no", "emulated"):
        why = "only dequantizes" if row.reads == "emulated" else "has no kernel for"
        return Reads(False, f"{_NAMED} {why} {weights.text} on {place.text}{note}")
    if row.reads == "depends":
        return Reads(None, f"{_NAMED} reads {weights.text} on {place.text} only with{note}")
    return Reads(True, widens=row.reads == "widened")


def _from_table(table: Table, weights: Weights, place: Place, where: str) -> Reads:
    capability = place.compute_capability
    if weights.scheme in FLOATS:
        half = weights.scheme == "bf16" and float(capability or 0) < BFLOAT16_SINCE
        return Reads(True, f"{_NAMED} serves it in float16 there" if half else "")
    if weights.group not in _GROUPS:
        return Reads(None, f"it is not known whether vLLM reads {weights.text}")
    row = row_of(weights.scheme, weights.zero_points)
    found = (
        table.groups(where, form, row, capability).get(weights.group)
        for form in _FORMATS
        if table.groups(where, form, row, capability)
    )
    kernel = next((kernel for kernel in found if kernel is not None), None)
    if kernel is None:
        of = " of experts" if where == "experts" else ""
        return Reads(False, f"{_NAMED} has no kernel for {weights.text}{of} on {place.text}")
    widens = not weights.scheme.endswith("a16") and weights.scheme != "fp4"
    return Reads(True, widens=widens and is_of_weights_alone(kernel, weights.scheme))


@functools.cache
def rows() -> tuple[Row, ...]:
    """What was read by hand, the first that fits first."""
    return tuple(_read())


def _read() -> Iterator[Row]:
    lines = _BY_HAND.read_text("utf-8").splitlines()
    for line in csv.DictReader(line for line in lines if not line.startswith("#")):
        groups = tuple(line.pop("groups").split())
        yield Row(groups=groups, **line)
