"""What takes long is told, with how far it is; what does not is not."""

import importlib
import io
import threading
from contextlib import redirect_stderr

import pytest

from runner.methods.backends.llm_compressor import _progress_of
from runner.util.bars import bars_told
from runner.util.progress import progress

pytestmark = pytest.mark.unit

told = importlib.import_module("runner.util.progress")


class Waiting(io.StringIO):
    """A standard error that tells when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.written = "", threading.Event()

    def write(self, text: str) -> int:
        self.text += text
        self.written.set()
        return len(text)

    def wait_for(self, wanted: str) -> None:
        while wanted not in self.text:
            self.written.clear()
            assert self.written.wait(60), self.text


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> Waiting:
    stream = Waiting()
    monkeypatch.setattr(told, "_SILENT_SECONDS", 0.001)
    monkeypatch.setattr(told, "_PIPED_SECONDS", 0.001)
    return stream


def test_what_takes_long_is_told_with_how_far_it_is(errors: Waiting) -> None:
    with redirect_stderr(errors), progress("reading records", 5000) as seen:
        seen(1200)
        errors.wait_for("runner: reading records: 1,200 of 5,000")


def test_of_nested_ones_the_innermost_is_told(errors: Waiting) -> None:
    with redirect_stderr(errors), progress("outer", 2):
        errors.wait_for("runner: outer: 0 of 2")
        with progress("inner\x1b[31m"):
            # Control characters are not passed on.
            errors.wait_for("runner: inner?[31m: ")
            assert errors.text.rindex("inner") > errors.text.rindex("outer")


def test_what_is_over_at_once_is_not_told(errors: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "_SILENT_SECONDS", 3600.0)
    with redirect_stderr(errors), progress("quick", 3) as seen:
        seen()
    assert errors.text == ""


def test_a_terminals_line_is_redrawn_and_wiped_off(
    errors: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "isatty", lambda: True)
    with redirect_stderr(errors), progress("reading records", 5000):
        errors.wait_for("\r\x1b[Kreading records: 0 of 5,000")
    assert errors.text.endswith("\r\x1b[K")
    with redirect_stderr(errors), told.quiet():
        pass
    assert errors.text.count("\r\x1b[K\r\x1b[K") == 0, "once wiped off there is nothing to wipe"


def test_bars_of_libraries_are_told() -> None:
    from tqdm import tqdm
    from tqdm.auto import tqdm as another

    told: list[tuple[str, int, int]] = []
    quiet = io.StringIO()
    with bars_told(lambda *bar: told.append(bar)):
        for _ in tqdm(range(2), desc="(3/31): Calibrating", file=quiet, mininterval=0):
            pass
        another(desc="Loading weights", file=quiet).close()
    assert told[0] == ("(3/31): Calibrating", 0, 2)
    assert ("(3/31): Calibrating", 2, 2) in told
    assert told[-1] == ("Loading weights", 0, 0)
    tqdm(desc="later", file=quiet).close()
    assert "later" not in {name for name, *_ in told}


def test_llm_compressors_bars_are_blocks_and_packed_weights() -> None:
    seen: list[tuple[int, int, str]] = []
    tell = _progress_of(lambda *state: seen.append(state))
    for bar in (("Smoothing", 1, 5), ("(3/31): Calibrating", 4, 16), ("Smoothing", 0, 5),
                ("(3/31): Propagating", 4, 16), ("Compressing model", 7, 210)):  # fmt: skip
        tell(*bar)
    block = (2, 31, "calibrating and rounding blocks")
    assert seen == [(0, 1, "rounding weights"), block, block, block, (7, 210, "packing weights")]
