"""Rules on calibration: which text, how much of it, how it is cut."""

from collections.abc import Iterator

from runner.config.schema.calibration import Calibration, Cut, windows_of_parts
from runner.config.schema.root import Config, StageName
from runner.config.schema.text import Text
from runner.methods import capabilities_of, used_recipe
from runner.validation.context import Facts
from runner.validation.layers import linear_inputs
from runner.validation.verdict import Verdict, illegal, warning

_SOME_DOCUMENTS = 50
"""How many to evaluate and not to calibrate on, where nobody says."""


def check_calibration(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Findings on the calibration that the recipe really uses; none when it uses none."""
    calibration = used_recipe(config).calibration
    if calibration is None:
        return
    if not calibration.parts:
        plain = capabilities_of(config.method).plain_rounding
        scales = " for static activation scales" if plain else ""
        yield illegal(
            f"method={config.method.name} needs calibration text{scales}",
            "calibration=openwebtext",
        )
        return
    if calibration.samples < 1 or calibration.sequence_length < 2:
        yield illegal(
            f"calibration of {calibration.samples} samples of {calibration.sequence_length} tokens "
            "is empty",
            "calibration.samples=32 calibration.sequence_length=256",
        )
        return
    broken = [*_check_mix(calibration), *_check_cut(config, calibration)]
    yield from broken
    if not broken:
        yield from _check_amount(config, calibration, facts)
        yield from _check_same_text(config, calibration, facts)


def _check_mix(calibration: Calibration) -> Iterator[Verdict]:
    if calibration.text is not None and calibration.sources:
        yield illegal(
            "calibration has both text and sources; use one of them",
            "calibration.sources=[]",
        )
    try:
        windows_of_parts(calibration)
    except ValueError as error:
        yield illegal(f"calibration: {error}", "weights, or counts that add up to samples")


def _check_cut(config: Config, calibration: Calibration) -> Iterator[Verdict]:
    least = calibration.minimum_length
    if least is not None and calibration.cut is Cut.concatenated:
        yield illegal(
            f"calibration.minimum_length={least} has no effect if documents are joined",
            "calibration.cut=per_sample",
        )
    elif least is not None and not 2 <= least <= calibration.sequence_length:
        yield illegal(
            f"calibration.minimum_length={least} is not between 2 and the window length",
            f"calibration.minimum_length={calibration.sequence_length}",
        )
    elif least not in (None, calibration.sequence_length) and (
        reason := capabilities_of(config.method).against_unequal_windows
    ):
        yield illegal(reason, "calibration.minimum_length=null")
    conversations = [part.text for part in calibration.parts if part.text.conversation]
    if calibration.apply_chat_template and not conversations:
        yield illegal(
            "calibration.apply_chat_template=true, but no text contains conversations (field "
            "conversation of the text)",
            "calibration=ultrachat, or calibration.apply_chat_template=false",
        )


def _check_amount(config: Config, calibration: Calibration, facts: Facts) -> Iterator[Verdict]:
    length, context = calibration.sequence_length, facts.architecture.context
    if context is not None and length > context:
        yield illegal(
            f"calibration.sequence_length={length} exceeds the model's context of {context} tokens",
            f"calibration.sequence_length={context}",
        )
    width = max(linear_inputs(facts.architecture).values(), default=0)
    if calibration.tokens < width and config.method.solves_with_hessians:
        yield warning(
            f"{calibration.tokens} calibration tokens are fewer than the {width} inputs of a "
            "layer, so Hessians are singular and results depend on damping",
            f"calibration.samples={-(-width // length) * 2}",
        )
    counts = windows_of_parts(calibration)
    for part, count in zip(calibration.parts, counts, strict=True):
        size = facts.local_text_bytes.get(part.text.path or "")
        # No token is shorter than a byte; how many there are exactly the tokenizer tells later.
        if calibration.cut is Cut.concatenated and size is not None and size < count * length:
            yield illegal(
                f"text {part.text.name} ({part.text.path}) has {size} bytes, fewer than the "
                f"{count * length} tokens that calibration needs ({count} windows of {length})",
                f"calibration.samples={size // length // 2}"
                if size // length > 1
                else "calibration.text.path of a longer text",
            )


def _check_same_text(config: Config, calibration: Calibration, facts: Facts) -> Iterator[Verdict]:
    evaluated = config.eval.text.name
    texts = [part.text for part in calibration.parts]
    known = [text for text in texts if (text.name, text.path) in facts.evaluated_texts]
    same = [text.name for text in known if not _apart(config.eval.text, text, calibration)]
    read = config.eval.context_length * config.eval.windows
    if StageName.eval not in config.stages or not same:
        return
    named = evaluated if evaluated in same else f"{same[0]} is {evaluated}"
    leading = not any(protocol.spreads for protocol in config.eval.protocols)
    if leading and calibration.cut is Cut.concatenated and calibration.skip_tokens >= read:
        return
    first = config.eval.text.documents or _SOME_DOCUMENTS
    apart = f"eval.text.documents={first} calibration.skip_documents={first}"
    yield warning(
        f"calibration and evaluation use the same text ({named}); the recipe "
        "will look better than it is",
        f"{f'calibration.skip_tokens={read}' if leading else apart}, or calibration=openwebtext "
        "text@eval.text=wikipedia",
    )


def _apart(evaluated: Text, seen: Text, calibration: Calibration) -> bool:
    """Whether calibration leaves alone all documents of a text that evaluation may read."""
    alike = all(
        getattr(evaluated, field) == getattr(seen, field)
        for field in ("reader", "field", "group_by", "conversation")
    )
    last = evaluated.documents
    return alike and last is not None and calibration.skip_documents >= last
