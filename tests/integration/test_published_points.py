"""The planner against published measurements: as good as is stated, and honest about the rest."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.predictions import report
from benchmarks.predictions.held import REGIMES, hold
from benchmarks.predictions.points import SERVING, read_points

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def predictions(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m benchmarks.predictions``."""
    command = [sys.executable, "-m", "benchmarks.predictions", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_no_regime_is_worse_than_is_stated(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    done = predictions("--rows", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    with SERVING.open(encoding="utf-8", newline="") as lines:
        asked = list(csv.DictReader(lines))
    with out.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert sorted(row["id"] for row in rows) == sorted(row["id"] for row in asked)
    for row in rows:
        low, expected, high = (float(row[name]) for name in ("low", "expected", "high"))
        assert 0 < low < expected < high, row
    printed = [name for name in REGIMES if f"\n{name} " in done.stdout]
    assert len(printed) == len(REGIMES) - 1  # serving.csv has no first tokens under load
    assert "rows are not predicted" not in done.stdout


def test_what_cannot_be_predicted_says_why(tmp_path: Path) -> None:
    with SERVING.open(encoding="utf-8", newline="") as lines:
        good = next(row for row in csv.DictReader(lines) if row["metric"] == "tpot_ms")
    wrong = {
        "model": ("gpt9", "there is no model gpt9 in conf/model"),
        "device": ("h999", "there is no device h999 in conf/hardware"),
        "metric": ("joules", "metric joules is none of"),
        "precision": ("int3", "there is no int3"),
        "engine": ("spreadsheet 1.0", "no constants are known of engine spreadsheet 1.0"),
        "value": ("0", "value 0 is not positive"),
        "tp": ("two", "invalid literal"),
    }
    rows = [good, *({**good, name: value} for name, (value, _) in wrong.items())]
    points, out = tmp_path / "points.csv", tmp_path / "out.csv"
    with points.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(good))
        writer.writeheader()
        writer.writerows(rows)
    done = predictions(str(points), "--rows", str(out))
    assert done.returncode == 0, done.stderr
    assert f"{len(wrong)} rows are not predicted" in done.stdout
    with out.open(encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines))
    assert [bool(row["reason"]) for row in found] == [False, *[True] * len(wrong)]
    for row, (_, reason) in zip(found[1:], wrong.values(), strict=True):
        assert reason in row["reason"] and not row["expected"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_one_message(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "points.csv"
    if content is not None:
        path.write_bytes(content)
    done = predictions(str(path))
    assert done.returncode == 2 and "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_above_what_is_stated_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, _ = read_points([SERVING])
    held = hold([point for point in points if point.metric == "tpot_ms"][:60])
    stated = report.figures(held)
    path = tmp_path / "stated.yaml"
    monkeypatch.setattr(report, "STATED", path)
    path.write_text(yaml.safe_dump(stated))
    assert not list(report.worse(held))
    name = "serving, dense"
    stated[name]["median_error"] -= 0.02
    path.write_text(yaml.safe_dump(stated))
    (line,) = report.worse(held)
    assert line.startswith(f"{name}: median_error is ")
