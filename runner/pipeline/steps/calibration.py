"""Steps ``windows`` and ``overlap``: what a recipe looks at, and whether it is evaluated on it."""

from runner.config.schema.calibration import Calibration
from runner.data.texts.calibration import Part
from runner.data.texts.degenerate import LEFT_OUT
from runner.data.texts.windows import bos_determinant
from runner.evaluation.metrics.overlap import LARGE_LONG_SHARE, LARGE_SHARE
from runner.pipeline.checkpoint import Subject
from runner.pipeline.inputs import TRANSFORMERS, Inputs
from runner.pipeline.session import Obtained, Work
from runner.pipeline.stages.overlap import OverlapRequest
from runner.pipeline.stages.windows import WindowsRequest
from runner.pipeline.steps.evaluate import cut_determinants, excerpt_of
from runner.util.serialise import to_json
from runner.validation.verdict import Verdict, warning

INDECISIVE = ("min_tokens_per_expert", "allow_unseen_experts")
"""Fields of a calibration that change neither windows nor weights."""
_MUCH_LEFT_OUT = 0.1
"""Share of the windows drawn from a text above which it is a warning that they were left out."""


def calibration_windows(
    inputs: Inputs, model: Subject, calibration: Calibration | None
) -> Obtained | None:
    """The windows a recipe looks at; ``None`` when it looks at none."""
    if calibration is None or not calibration.parts:
        return None
    texts = [inputs.text(part.text) for part in calibration.parts]
    environment = inputs.environment(TRANSFORMERS)
    request = WindowsRequest(
        calibration=to_json(calibration),
        text_names=[part.text.name for part in calibration.parts],
        text_directories=[text.directory for text in texts],
        tokenizer_directory=model.directory,
        trust_remote_code=inputs.config.model.trust_remote_code,
    )
    determinants = {
        "tokenizer": model.identity,
        "texts": [text.address.key for text in texts],
        "calibration": {k: v for k, v in request.calibration.items() if k not in INDECISIVE},
        **bos_determinant(model.directory),
        "versions": environment.versions(("tokenizers", "transformers")),
    }
    task = inputs.task("windows", request, environment)
    title = f"windows of {calibration.texts_label}"
    found = inputs.session.obtain(Work(title, task, determinants))
    for part in found.said.get("parts", ()):
        _tell_left_out(inputs, Part(**part))
    return found


def _tell_left_out(inputs: Inputs, part: Part) -> None:
    """Say how many windows of a text were passed over; a text of much junk is a warning."""
    drawn = part.windows + part.left_out
    said = f"{part.left_out} of {drawn} windows of text {part.text} left out: {LEFT_OUT}"
    if part.left_out > max(1, _MUCH_LEFT_OUT * drawn):  # one may be chance
        inputs.warn(f"{said}; is it the text that was meant?")
    elif part.left_out:
        inputs.mention(said)


def overlap(inputs: Inputs, model: Subject, windows: Obtained) -> Obtained:
    """How much of the evaluated windows of text occurs in the calibration windows."""
    eval_ = inputs.config.eval
    text = inputs.text(eval_.text)
    environment = inputs.environment(TRANSFORMERS)
    request = OverlapRequest(
        windows_directory=windows.directory,
        excerpt=excerpt_of(inputs, model, text),
        protocols=eval_.protocols,
    )
    determinants = {
        "windows": windows.address.key,
        "text": text.address.key,
        "evaluated": cut_determinants(eval_),
    }
    task = inputs.task("overlap", request, environment)
    return inputs.session.obtain(Work("overlap", task, determinants))


def overlap_verdicts(found: Obtained, evaluated: str) -> list[Verdict]:
    """A warning when calibration and evaluation share more than idioms."""
    short, long = found.result["overlaps"]
    if short["share"] < LARGE_SHARE and long["share"] < LARGE_LONG_SHARE:
        return []
    return [
        warning(
            f"{short['share']:.1%} of the 8-word and {long['share']:.1%} of the 13-word sequences "
            f"evaluated ({evaluated}) occur in the calibration windows (such as "
            f"“{short['example']}”); the recipe will look better than it is",
            "another calibration or eval text, or eval.text.documents=N with "
            "calibration.skip_documents=N",
        )
    ]
