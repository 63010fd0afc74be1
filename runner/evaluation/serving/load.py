"""Runs guidellm against a server and reads its report, without importing it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.schema.serving import ServiceLevelObjective, Serving
from runner.engines.server import tail
from runner.errors import StageError
from runner.evaluation.metrics.statistics import Summary, summarise
from runner.util.logs import BoundedLog, Pump


@dataclass
class Level:
    """Requests at one load. Times are a request's each."""

    concurrency: int | None
    arrival_rate: float | None
    """Requests per second; one of the two is told."""
    requests: int
    """That were answered."""
    failed: int
    seconds: float
    """From the first request's start to the last one's end."""
    prompt_tokens: float
    """Mean, as the server counts them."""
    new_tokens: float
    time_to_first_token_seconds: Summary
    """From sending the request, waiting in the server's queue included."""
    time_per_output_token_seconds: Summary
    """(last token - first token) / (tokens - 1): guidellm calls this its inter-token latency."""
    request_latency_seconds: Summary
    requests_per_second: float
    output_tokens_per_second: float
    """Of all requests together."""
    attainment: float | None
    """Part of all requests, failed ones included, that met the objective; ``None`` without one."""
    goodput_requests_per_second: float | None


@dataclass(frozen=True)
class Target:
    """Where requests go and what they are made of."""

    url: str
    model: str
    body: dict[str, Any]
    """What every request says besides."""
    tokenizer: Path


def apply_load(target: Target, load: Serving, scratch: Path) -> list[Level]:
    """Run guidellm, which this interpreter must have, once for each kind of level.

    Raises:
        StageError: It failed; its last lines are told.
    """
    levels: list[Level] = []
    for kind, key, values in (
        ("concurrent", "streams", load.concurrencies),
        ("poisson", "rate", load.arrival_rates),
    ):
        if not values:
            continue
        report = scratch / f"{kind}.json"
        scenario = scratch / f"{kind}_scenario.json"
        profile = {"kind": kind, key: list(values)}
        content = _scenario(target, load, profile, report)
        scenario.write_text(json.dumps(content), encoding="utf-8")
        log = BoundedLog(scratch / f"{kind}.log")
        code = _run([sys.executable, "-m", "guidellm", "run", "-c", str(scenario),
                     "--disable-console"], log)  # fmt: skip
        if code or not report.exists():
            raise StageError(f"guidellm ended with code {code}: {tail(log)}")
        benchmarks = json.loads(report.read_text("utf-8"))["benchmarks"]
        for value, benchmark in zip(values, benchmarks, strict=True):
            concurrency = int(value) if kind == "concurrent" else None
            rate = None if kind == "concurrent" else float(value)
            levels.append(read_level(benchmark, concurrency, rate, load.slo))
    return levels


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


def read_level(
    benchmark: dict[str, Any],
    concurrency: int | None,
    rate: float | None,
    objective: ServiceLevelObjective,
) -> Level:
    """One level out of guidellm's report.

    Raises:
        StageError: No request was answered; the first one's error is told.
    """
    requests = benchmark["requests"]
    good, bad = requests["successful"], [*requests["errored"], *requests["incomplete"]]
    if not good:
        why = next((r["info"].get("error") for r in bad if r["info"].get("error")), "no reason")
        raise StageError(f"none of {len(bad)} requests was answered: {why}")
    first = [r["time_to_first_token_ms"] / 1000 for r in good]
    rest = [(r["inter_token_latency_ms"] or 0.0) / 1000 for r in good]
    whole = [r["request_latency"] for r in good]
    start = min(r["request_start_time"] for r in good)
    seconds = max(r["request_end_time"] for r in good) - start
    met = [_keeps(objective, *times) for times in zip(first, rest, whole, strict=True)]
    has_objective = any(value is not None for value in vars(objective).values())
    return Level(
        concurrency=concurrency,
        arrival_rate=rate,
        requests=len(good),
        failed=len(bad),
        seconds=seconds,
        prompt_tokens=sum(r["prompt_tokens"] or 0 for r in good) / len(good),
        new_tokens=sum(r["output_tokens"] or 0 for r in good) / len(good),
        time_to_first_token_seconds=summarise(first),
        time_per_output_token_seconds=summarise(rest),
        request_latency_seconds=summarise(whole),
        requests_per_second=len(good) / seconds,
        output_tokens_per_second=sum(r["output_tokens"] or 0 for r in good) / seconds,
        attainment=sum(met) / (len(good) + len(bad)) if has_objective else None,
        goodput_requests_per_second=sum(met) / seconds if has_objective else None,
    )


def _keeps(objective: ServiceLevelObjective, first: float, rest: float, whole: float) -> bool:
    limits = (
        (objective.time_to_first_token_seconds, first),
        (objective.time_per_output_token_seconds, rest),
        (objective.request_latency_seconds, whole),
    )
    return all(limit is None or value <= limit for limit, value in limits)


def _scenario(
    target: Target, load: Serving, profile: dict[str, Any], report: Path
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
            "constraints": [{"kind": "max_requests", "count": load.requests}],
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
