"""Runs guidellm against a server and reads its report, without importing it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.schema.serving import Serving
from runner.engines.server import tail
from runner.errors import StageError
from runner.evaluation.serving.level import Level, read_level
from runner.evaluation.serving.search import Capacity, largest_concurrency
from runner.util.logs import BoundedLog, Pump


@dataclass(frozen=True)
class Target:
    """Where requests go and what they are made of."""

    url: str
    model: str
    body: dict[str, Any]
    """What every request says besides."""
    tokenizer: Path


@dataclass(frozen=True)
class Served:
    """Levels in the order in which they were measured, and what a search has found."""

    levels: list[Level]
    capacity: Capacity | None


def apply_load(
    target: Target, load: Serving, scratch: Path, tell: Callable[[str], None] = lambda _: None
) -> Served:
    """Run guidellm, which this interpreter must have, once for every level.

    Args:
        target: Where requests go.
        load: Which levels, and what is searched for.
        scratch: A folder for its reports.
        tell: Told of each level before it is measured.

    Raises:
        StageError: It failed; its last lines are told.
    """
    levels: list[Level] = []

    def probe(concurrency: int) -> Level:
        known = next((one for one in levels if one.concurrency == concurrency), None)
        if known is not None:
            return known
        tell(f"{concurrency} at once")
        levels.append(_at_concurrency(target, load, concurrency, scratch))
        return levels[-1]

    for concurrency in load.concurrencies:
        probe(concurrency)
    for rate in load.arrival_rates:
        tell(f"{rate:g} a second")
        profile = {"kind": "poisson", "rate": [rate]}
        benchmark = _benchmark(target, load, profile, load.requests, scratch)
        levels.append(read_level(benchmark, None, float(rate), load.slo))
    if load.max_concurrency is None:
        return Served(levels, None)
    found = largest_concurrency(
        lambda concurrency: _counts(probe(concurrency)), load.max_concurrency, load.min_attainment
    )
    return Served(levels, found)


def _at_concurrency(target: Target, load: Serving, concurrency: int, scratch: Path) -> Level:
    """Whole rounds: a round that some users sit out is of a smaller concurrency."""
    rounds = -(-load.requests // concurrency) + load.warmup_rounds
    profile = {"kind": "concurrent", "streams": [concurrency]}
    benchmark = _benchmark(target, load, profile, rounds * concurrency, scratch)
    return read_level(
        benchmark, concurrency, None, load.slo, warmup=load.warmup_rounds * concurrency
    )


def _counts(level: Level) -> tuple[int, int]:
    """Requests that met the objective, of how many."""
    every = level.requests + level.failed
    return round((level.attainment or 0.0) * every), every


def _benchmark(
    target: Target, load: Serving, profile: dict[str, Any], requests: int, scratch: Path
) -> dict[str, Any]:
    report, scenario = scratch / "report.json", scratch / "scenario.json"
    report.unlink(missing_ok=True)
    content = _scenario(target, load, profile, requests, report)
    scenario.write_text(json.dumps(content), encoding="utf-8")
    log = BoundedLog(scratch / "guidellm.log")
    code = _run([sys.executable, "-m", "guidellm", "run", "-c", str(scenario),
                 "--disable-console"], log)  # fmt: skip
    if code or not report.exists():
        raise StageError(f"guidellm ended with code {code}: {tail(log)}")
    (benchmark,) = json.loads(report.read_text("utf-8"))["benchmarks"]
    found: dict[str, Any] = benchmark
    return found


def _run(command: list[str], log: BoundedLog) -> int:
    pump = Pump(log)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=pump.end,
            stderr=subprocess.STDOUT,
            env={
                "GUIDELLM__MAX_WORKER_PROCESSES": str(_senders(os.cpu_count() or 1)),
                **os.environ,
                "HF_HUB_OFFLINE": "1",
                "NO_PROXY": "127.0.0.1",
            },
            # It takes a `.env` that lies where it is started for its settings.
            cwd=log.path.parent,
            check=False,
        )
    finally:
        pump.started()
        pump.close()
    return done.returncode


def _senders(cores: int) -> int:
    """Processes of guidellm: few, since the server computes on the same cores. It takes ten."""
    return max(1, min(10, cores // 4))


def _scenario(
    target: Target, load: Serving, profile: dict[str, Any], requests: int, report: Path
) -> dict[str, Any]:
    """What guidellm 0.8 reads with ``run -c``."""
    return {
        "spec": {
            "backend": {
                "kind": "openai_http",
                "target": target.url,
                "model": target.model,
                "request_format": "/v1/completions",
                "http2": False,
                # It asks /health, which not every server has; this one has answered already.
                "validate_backend": False,
                "extras": {"body": target.body} if target.body else None,
            },
            "profile": profile,
            "constraints": [{"kind": "max_requests", "count": requests}],
            "tokenizer": {"kind": "huggingface_auto", "model": str(target.tokenizer)},
            "data": [
                {
                    "kind": "synthetic_text",
                    "prompt_tokens": load.prompt_tokens,
                    "output_tokens": load.new_tokens,
                }
            ],
            "outputs": [{"kind": "json", "path": str(report)}],
        }
    }
