"""The end of docs/tutorial.md as written there: a sweep file and a model of one's own."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.integration.conftest import Called, base_model, keys, records

pytestmark = pytest.mark.integration


def test_a_sweep_file_of_ones_own_over_a_model_of_ones_own(
    command: Callable[..., Called], store: Path, tmp_path: Path
) -> None:
    made = command(
        "model=tiny", "method=none", "stages=[eval]", "eval=quick", "sweep=tutorial",
        "tracker=none",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    models = tmp_path / "models"
    models.mkdir()
    (models / "mine").symlink_to(base_model(store, records(store, "tutorial")[0]))
    found = re.search(
        r"```yaml\n(# sweeps/mine\.yaml.*?)```", (ROOT / "docs/tutorial.md").read_text(), re.DOTALL
    )
    assert found
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(found[1])
    swept = command(
        "-cn", "mine", "model=local", "model.path=models/mine", "eval=quick", "sweep=my_own",
        "calibration.samples=2", "calibration.sequence_length=64", "tracker=none",
    )  # fmt: skip
    assert swept.returncode == 0, swept.stderr
    runs = records(store, "my_own")
    assert [run["status"] for run in runs] == ["ok"] * 4
    assert {run["model"] for run in runs} == {"mine"}
    assert len({keys(run, "quantize")[0][1] for run in runs}) == 4
    assert (tmp_path / "multirun").is_dir()
