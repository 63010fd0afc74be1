"""``python -m gpu_check [OVERRIDE ...]``: see the package."""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gpu_check import report
from gpu_check.matrix import conclusions, matrix
from gpu_check.outcome import Budget, carry_out
from gpu_check.setting import CHECKOUT, Setting
from runner.api import compose_config
from runner.errors import RunnerError, complain
from runner.planning.hardware.detect import detect

NOTHING_TO_CHECK = 2


def main(arguments: Sequence[str]) -> int:
    """Go through the checks.

    Returns:
        0 if nothing failed, 1 if something did, 2 without a GPU or with a wrong command line.
    """
    given = _parser().parse_intermixed_args(arguments)
    machine = detect()
    if given.device == "cuda" and not machine.gpus:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = (
            f"CUDA_VISIBLE_DEVICES={hidden} leaves none" if hidden is not None else "see nvidia-smi"
        )
        print(
            f"gpu-check: the driver tells of no GPU that may be used here ({why})", file=sys.stderr
        )
        return NOTHING_TO_CHECK
    try:
        environments = compose_config(given.overrides).store.environments
    except RunnerError as error:
        return complain(error)
    if given.store and (Path(given.store).expanduser() / "objects").exists():
        return complain(f"--store={given.store} holds results, which would not be made again")
    scratch = Path(tempfile.mkdtemp(prefix="gpu-check-"))
    setting = Setting(
        machine=machine,
        device=given.device,
        overrides=tuple(given.overrides),
        store=Path(given.store or scratch / "store").expanduser().absolute(),
        environments=Path(environments).expanduser().resolve(),
        scratch=scratch,
        budget=Budget(60 * given.minutes),
        patience=1.0 if given.device == "cuda" else 5.0,
    )
    try:
        return _check(setting, given)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check(setting: Setting, given: argparse.Namespace) -> int:
    def say(line: str) -> None:
        print(line, flush=True)

    asked = tuple(given.only) or ("",)
    checks = [one for one in matrix(setting, dry=given.dry_run) if one.name.startswith(asked)]
    if not checks:
        names = ", ".join(one.name for one in matrix(setting, dry=True))
        return complain(f"--only={given.only[0]}: no check begins so; there are {names}")
    outcomes = carry_out(checks, setting.budget, say, dry=given.dry_run)
    if setting.records or not given.only:
        outcomes += carry_out(conclusions(setting), setting.budget, say, dry=given.dry_run)
    seconds = setting.budget.spent
    found = report.content(setting, outcomes, seconds)
    counts = (f"{number} {state}" for state, number in found["summary"].items() if number)
    say(f"{', '.join(counts)}; {seconds:.0f} s")
    computed = setting.device == "cuda" and not given.dry_run and not given.only
    folder = given.out or (CHECKOUT / "docs" / "gpu" if computed else None)
    try:
        say(f"report: {report.write(found, Path(folder))}" if folder else report.page(found))
    except OSError as error:  # what took ten minutes is not lost for want of a folder
        say(f"{report.page(found)}\nnot written: {error}")
    return int(report.failed(outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m gpu_check",
        description="Check the CUDA path on the GPU at hand and write docs/gpu/<device>.md.",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="OVERRIDE",
        help="passed to every run, such as environment.default.python=/usr/bin/python3",
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="in all (default: 10)")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="checks whose names begin so, such as 'vllm'; no page is written; may be repeated",
    )
    parser.add_argument("--out", metavar="FOLDER", help="write the report there")
    parser.add_argument(
        "--store",
        metavar="FOLDER",
        help="keep models and results in this new folder (default: none are kept)",
    )
    # For this project's own tests: the same on a CPU with a tiny model, and nothing but judging.
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
