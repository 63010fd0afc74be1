"""Decode speed as stage ``bench`` measures it, against what each library says of itself.

In one process per engine, on one loaded checkpoint, by turns, so that drift is in both. Against:

- ``hf``: a plain transformers loop with the model's own cache;
- ``llama_cpp``: llama-cpp-python's own timing (``llama_perf_context``) of its ``Llama.eval``;
- ``vllm``: what ``vllm bench latency`` times, ``LLM.generate``, for all tokens less for one.

``python -m benchmarks.engine_timings [ENGINE…]``; figures are in docs/measurements.md.
"""

import json
import subprocess
import sys
import time
from typing import Any

_REPETITIONS = 7
_PROMPT, _NEW = 64, 48
_SETTINGS = {
    "hf": ["method=none"],
    "llama_cpp": ["method=gguf", "bits=w8a16"],
    "vllm": ["method=none", "engine.enforce_eager=true"],
}


def measure(engines: list[str] | None = None) -> str:
    """A line an engine: the ratio of the two rates with its 95% interval."""
    return "\n".join(_line(engine) for engine in engines or _SETTINGS)


def _line(engine: str) -> str:
    from runner.api import compose_config
    from runner.pipeline.context import RunContext
    from runner.pipeline.session import open_session
    from runner.pipeline.stages.quantize import STAGE
    from runner.util.serialise import to_json

    config = compose_config([*_SETTINGS[engine], f"engine={engine}", "tracker=none"])
    session = open_session(config)
    try:
        run = RunContext(config, session, "benchmark")
        STAGE.carry_out(run)
        inputs = run.inputs
        request = to_json(inputs.load(run.checkpoint, config.engine))
        threads = inputs.compute.threads
        python = inputs.environment(engine).python
    finally:
        session.close()
    inside = [f"--inside={json.dumps(request)}", str(threads)]
    done = subprocess.run(
        [python, "-m", "benchmarks.engine_timings", *inside],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return f"{engine}: {' '.join(done.stderr.strip().splitlines()[-3:])}"
    found = json.loads(done.stdout.splitlines()[-1])
    return _compared(engine, found["ours"], found["theirs"])


def _compared(engine: str, ours: list[float], theirs: list[float]) -> str:
    from runner.evaluation.metrics.noise import compare, relative_noise

    turns = compare(ours, theirs, paired=True)
    ratio, noise = turns.ratio, relative_noise(theirs)
    return (
        f"{engine}: decode {sorted(ours)[len(ours) // 2]:.1f} tokens/s here, "
        f"{sorted(theirs)[len(theirs) // 2]:.1f} by the library's own timing; ratio "
        f"{ratio.estimate:.3f} [{ratio.low:.3f}, {ratio.high:.3f}], "
        f"{'within' if turns.within_noise else 'beyond'} noise "
        f"(repeat spread {noise:.1%}, n = {len(ours)})"
    )


def _inside(request: dict[str, Any], threads: int) -> None:
    """Measure in the engine's environment; prints both series as JSON."""
    from runner.engines import find_engine
    from runner.engines.loading import LoadRequest, specification
    from runner.evaluation.metrics.speed import decode_rates
    from runner.util.serialise import from_json

    spec = specification(from_json(LoadRequest, request), threads)
    name = spec.settings.name
    if name != "llama_cpp":
        import torch

        torch.set_num_threads(spec.threads)
    model = find_engine(name).load(spec)
    own = {"hf": _transformers, "llama_cpp": _llama_cpp, "vllm": _vllm}[name](model, spec)
    ours, theirs = [], []
    for repetition in range(_REPETITIONS + 1):
        one = decode_rates([model.generate(1, _PROMPT, _NEW)], 1)
        other = own()
        if repetition:
            ours += one
            theirs.append(other)
    print(json.dumps({"ours": ours, "theirs": theirs}))


def _transformers(model: Any, spec: Any) -> Any:
    import torch

    ids = torch.randint(0, 49000, (1, _PROMPT), generator=torch.Generator().manual_seed(1))

    @torch.inference_mode()
    def once() -> float:
        out = model.model(input_ids=ids, use_cache=True)
        token = out.logits[:, -1:].argmax(-1)
        start = time.perf_counter()
        for _ in range(_NEW - 1):
            out = model.model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
            token = out.logits[:, -1:].argmax(-1)
        return (_NEW - 1) / (time.perf_counter() - start)

    return once


def _llama_cpp(model: Any, spec: Any) -> Any:
    import llama_cpp

    (file,) = spec.checkpoint.glob("*.gguf")
    llama = llama_cpp.Llama(
        str(file), n_ctx=256, n_threads=spec.threads, n_threads_batch=spec.threads,
        verbose=False, no_perf=False, flash_attn=True,  # as llama.cpp chooses by itself
    )  # fmt: skip

    def once() -> float:
        llama.reset()
        llama.eval(list(range(100, 100 + _PROMPT)))
        llama_cpp.llama_perf_context_reset(llama.ctx)
        for step in range(_NEW - 1):
            llama.eval([1000 + step])
            llama_cpp.llama_synchronize(llama.ctx)
        found = llama_cpp.llama_perf_context(llama.ctx)
        return 1000 * found.n_eval / found.t_eval_ms

    return once


def _vllm(model: Any, spec: Any) -> Any:
    from vllm import SamplingParams

    llm = model._llm
    prompts = [{"prompt_token_ids": list(range(100, 100 + _PROMPT))}]

    def seconds(tokens: int) -> float:
        parameters = SamplingParams(
            temperature=1.0, top_p=1.0, ignore_eos=True, max_tokens=tokens, detokenize=False
        )
        start = time.perf_counter()
        llm.generate(prompts, sampling_params=parameters, use_tqdm=False)
        return time.perf_counter() - start

    return lambda: (_NEW - 1) / (seconds(_NEW) - seconds(1))


if __name__ == "__main__":
    first = next(iter(sys.argv[1:]), "")
    if first.startswith("--inside="):
        _inside(json.loads(first.removeprefix("--inside=")), int(sys.argv[2]))
    else:
        print(measure(sys.argv[1:] or None))
