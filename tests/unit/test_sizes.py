"""Sizes of environments: shared files once, and counted again when one was made again."""

import os
from pathlib import Path

import pytest

from runner.environments.create import READY_FILE
from runner.environments.sizes import Sizes

pytestmark = pytest.mark.unit


def test_shared_files_count_once_and_a_count_is_kept(tmp_path: Path) -> None:
    one, two = (tmp_path / name for name in ("one", "two"))
    for directory in (one, two):
        directory.mkdir()
        (directory / READY_FILE).write_text("{}")
    (one / "large").write_bytes(bytes(100_000))
    (two / "large").hardlink_to(one / "large")
    cache = tmp_path / "cache"
    alone, both = Sizes(cache).of([one]), Sizes(cache).of([one, two])
    assert 100_000 < alone < both < alone + 100_000
    (one / "more").write_bytes(bytes(50_000))
    assert Sizes(cache).of([one]) == alone, "kept for a day"
    os.utime(one / READY_FILE, ns=(0, 0))
    assert Sizes(cache).of([one]) > alone + 50_000, "made again"
