"""The tables of what kernels reach: every row is usable, and is of a device as it is described."""

import csv
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

import runner.planning.kernels
from runner.config.schema.hardware import Hardware
from runner.config.schema.plan import Plan
from runner.engines import all_engines
from runner.engines.planned import ServingEngine
from runner.planning.devices import device_names, read_device
from runner.planning.formats import find_format
from runner.planning.kernels.constants import EngineConstants, engine_family, family_of
from runner.planning.kernels.kernel_set import kernel_of
from runner.planning.kernels.table import ANY
from runner.planning.recipes import recipes_of

pytestmark = pytest.mark.unit

FOLDER = Path(runner.planning.kernels.__file__).parent / "tables"
TABLES = sorted(path.stem for path in FOLDER.glob("*.csv"))
ENGINES = yaml.safe_load((FOLDER / "engines.yaml").read_text("utf-8"))
WORDS = {"generation", "device", "engine", "kernel", "arithmetic", "phase", "source"}
"""Columns of names; all others are numbers."""
UNKNOWN_OF_ANY = {"device_gigabytes_per_second", "median_error"}
WHICH = ("phase", "generation", "device", "engine", "kernel", "kv_bits", "devices")
KERNELS = {
    "w16a16", "w8a16", "w8a8_int8", "w8a8_fp8", "w8a8_fp8_block", "w4a16", "w4a16_mxfp4",
    "w4a8_mxfp4", "w4a4",
}  # fmt: skip


def rows(table: str) -> list[dict[str, str]]:
    with (FOLDER / f"{table}.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def devices() -> dict[str, Hardware]:
    return {name: read_device(name) for name in device_names()}


def test_there_is_a_table_for_each_operator() -> None:
    assert TABLES == [
        "all_reduce", "all_reduce_pcie", "decode_attention", "experts", "gemm",
        "latent_attention", "prefill_attention",
    ]  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_every_row_is_of_something_known(table: str, devices: dict[str, Hardware]) -> None:
    generations = {one.generation for one in devices.values()} | {ANY}
    generations |= {one.interconnect.name for one in devices.values()}
    found = rows(table)
    assert found
    for row in found:
        assert row["generation"] in generations, row
        assert row["engine"] in (*ENGINES["engines"], ANY), row
        assert row["source"], row
        assert row.get("kernel", "w16a16") in KERNELS, row
        if row["device"]:
            device = devices[row["device"]]
            own = {device.generation, device.interconnect.name}
            assert row["generation"] in own, row
    repeated = Counter(tuple(row.get(name) for name in WHICH) for row in found)
    assert [which for which, times in repeated.items() if times > 1] == []


@pytest.mark.parametrize("table", TABLES)
def test_every_number_is_one(table: str) -> None:
    for row in rows(table):
        assert None not in row and None not in row.values(), row
        for column in set(row) - WORDS:
            if not row[column]:
                assert column in UNKNOWN_OF_ANY and not row["device"], row
                continue
            number = float(row[column])
            if column.endswith("_share"):
                assert 0.04 < number < 1.1, (column, row)
            elif not number:
                assert column in ("nanoseconds_per_sequence", "sequence_half", "peak_share"), row
            else:
                assert 0 < number < 1e5, (column, row)


@pytest.mark.parametrize("table", TABLES)
def test_shares_are_of_the_bandwidth_that_the_device_is_said_to_have(
    table: str, devices: dict[str, Hardware]
) -> None:
    """Else a share of it makes another time than was measured."""
    for row in rows(table):
        if row["device"]:
            said = devices[row["device"]].memory_bandwidth_gigabytes_per_second
            assert float(row["device_gigabytes_per_second"]) == pytest.approx(said, rel=0.03), row


def test_rows_are_of_arithmetic_that_the_device_can_do(devices: dict[str, Hardware]) -> None:
    """Else a share of the peak is one of another format's."""
    for table in ("gemm", "experts"):
        for row in rows(table):
            if row["device"]:
                assert row["arithmetic"] in devices[row["device"]].peak_teraflops, row


def test_every_family_has_every_constant() -> None:
    names = {one.name for one in fields(EngineConstants)}
    generations = {read_device(name).generation for name in device_names()} | {""}
    assert ENGINES["default"] in ENGINES["engines"]
    for name, values in ENGINES["engines"].items():
        assert set(values) - {"generations", "points"} == {"kernels", *names}, name
        family = engine_family(name)
        assert set(family.kernels) <= set(ENGINES["engines"]), name
        assert all(0 <= getattr(family.constants, one) < 10 for one in names), name
        assert 0 <= family.constants.separate_prefill <= 1
        for generation, factors in family.generations.items():
            assert generation in generations, (name, generation)
            assert set(factors) <= names and all(0.1 < one < 10 for one in factors.values())


def test_every_engine_that_serves_has_constants_of_its_own() -> None:
    serving = [name for name, one in all_engines().items() if isinstance(one, ServingEngine)]
    assert serving and [family_of(name).name for name in serving] == serving


def test_every_kernel_that_a_recipe_may_take_is_in_the_tables(
    devices: dict[str, Hardware],
) -> None:
    wanted = {
        kernel_of(find_format(label), device)
        for label in recipes_of(Plan(), None)
        for device in devices.values()
        if not device.unknown_limits
    }
    assert wanted <= KERNELS and wanted >= {"w16a16", "w8a16", "w4a16"}
    assert {row["kernel"] for table in ("gemm", "experts") for row in rows(table)} == KERNELS
