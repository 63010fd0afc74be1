"""A row of the answer: the results of one recipe."""

from dataclasses import dataclass, fields
from typing import Any

from runner.config.schema.floor import Variation
from runner.data.texts.sample import Sample
from runner.reporting.quality.answered import Answered
from runner.reporting.quality.evaluated import Evaluated
from runner.util.serialise import to_json


@dataclass
class Row:
    """One recipe's numbers. ``None`` means it was not measured."""

    recipe: str
    model: str
    engine: str
    status: str
    reason: str | None
    run: str | None
    """Directory of the run's record; ``None`` for the unquantized model's own row. Of several draws
    the first one's."""
    sweep: str | None = None
    is_baseline: bool = False
    is_floor: bool = False
    """No recipe: the unquantized model with its arithmetic varied, against itself."""
    text: str | None = None
    """What quality was measured on."""
    calibration_overlap: float | None = None
    """Share of the evaluated 8-word sequences that the calibration windows hold."""
    bits_per_weight: float | None = None
    bits_per_parameter: float | None = None
    """Of everything that is stored, embeddings too."""
    quantized_share: float | None = None
    """Fraction quantized of the matrix parameters that the recipe promises to quantize."""
    caveat: str | None = None
    """What of the checkpoint is less than the recipe promises, with the layers' names."""
    checkpoint_bytes: int | None = None
    checkpoint: str | None = None
    """Absolute path: a directory, or the file where it is a GGUF. ``None`` where it is not known or
    not there any more. Of several draws the first one's."""
    checkpoint_key: str | None = None
    """The store's key of the result of stage ``quantize`` that holds it."""
    serve: str | None = None
    """Command for a shell that serves it on its engine; see ``runner.reporting.served``. ``None``
    where there is no checkpoint, or the engine says of no server."""
    arithmetic: str | None = None
    """What quality was computed in: ``float32``, …; ``None`` in older records."""
    icc: float | None = None
    """How alike windows of one document are; see ``Perplexity.icc``."""
    effective_windows: float | None = None
    """Independent windows that would say as much as those that were read."""
    floor_kl_divergence: float | None = None
    """What the arithmetic alone does; see ``runner.reporting.floor``. ``None`` where it was not
    varied."""
    floor_log_ratio: float | None = None
    """The same of perplexity: the far end of the 95% interval of ``|ln ratio|``."""
    floor_flips: float | None = None
    """The same of top-1 agreement: the share of tokens with another most likely one."""
    floor_task_accuracy: float | None = None
    """The same of ``task_accuracy``: the far end of the 95% interval of its change."""
    perplexity_protocol: str | None = None
    perplexity: float | None = None
    perplexity_delta: float | None = None
    perplexity_delta_low: float | None = None
    perplexity_delta_high: float | None = None
    perplexity_ratio: float | None = None
    perplexity_ratio_low: float | None = None
    perplexity_ratio_high: float | None = None
    kl_divergence: float | None = None
    """Mean over tokens of KL(unquantized || recipe), in nats; see ``kl_divergence_metric``."""
    kl_divergence_low: float | None = None
    kl_divergence_high: float | None = None
    kl_divergence_metric: str | None = None
    top_1_agreement: float | None = None
    """Fraction of tokens where both find the same token the most likely."""
    tasks: int | None = None
    """How many tasks there is a share of right answers of."""
    task_accuracy: float | None = None
    """Mean of those shares."""
    task_accuracy_baseline: float | None = None
    """The unquantized model's."""
    task_accuracy_delta: float | None = None
    """Against that, on the same items."""
    task_accuracy_delta_low: float | None = None
    task_accuracy_delta_high: float | None = None
    task_recovery_percent: float | None = None
    """Of the unquantized model's mean."""
    task_answers: float | None = None
    """Items of those tasks that can be held against the unquantized model's; over draws a mean."""
    task_answers_changed: float | None = None
    """Those with another answer, right or not."""
    task_answers_lost: float | None = None
    """Those that the unquantized model got right and this one wrong."""
    task_answers_gained: float | None = None
    machine: str | None = None
    """What speeds were measured on: the GPUs in use, or the CPU with the cores in use."""
    batch_size: int | None = None
    decode_tokens_per_second: float | None = None
    decode_tokens_per_second_sd: float | None = None
    decode_of_dense: bool | None = None
    """Whether that is the speed of dense weights, which the engine made of quantized ones when it
    loaded them on a GPU: see ``runner.planning.runtime_format.is_made_dense``."""
    decode_ratio: float | None = None
    """Over the unquantized model's; of repetitions taken in turns where there are any."""
    decode_ratio_low: float | None = None
    """Of its 95% interval, which knows how it was measured: see ``runner.reporting.timing``."""
    decode_ratio_high: float | None = None
    decode_within_noise: bool | None = None
    """Whether that interval holds 1; ``None`` where no repetitions were kept."""
    decode_compared: str | None = None
    """``in turns``, ``measured again`` or ``separately``."""
    time_to_first_token_seconds: float | None = None
    memory_bandwidth_utilization: float | None = None
    peak_memory_bytes: int | None = None
    """On GPUs theirs, without what is set aside for more; ``None`` where it is not known."""
    held_memory_bytes: int | None = None
    """Of the GPUs, what is set aside included; ``None`` on a CPU."""
    seeds: int | None = None
    """Checkpoints that were made of the recipe from different seeds; intervals speak of the recipe
    where there are several, and of one draw's text alone where there is one. ``None`` where the
    recipe draws nothing."""
    runs: str | None = None
    """All of a row's runs where there are several, with spaces between."""
    best_tradeoff: bool = False
    """Not beaten in size, quality and speed by another row; see ``runner.reporting.pareto``."""

    def __post_init__(self) -> None:
        """What quality is judged by; no fields, for they are no figures to be written down."""
        self.evaluated: Evaluated | None = None
        self.answered: Answered | None = None
        self.sample: Sample | None = None
        self.variation: Variation | None = None
        """Of a floor's row: what was varied."""
        self.further: dict[str, float] = {}
        """Headline figures of plug-ins' stages, by name: columns where a row has them."""

    def content(self) -> dict[str, Any]:
        """Its figures as JSON values, by name."""
        own: dict[str, Any] = to_json(self)
        return own | self.further


def figure_names(rows: list[Row]) -> list[str]:
    """Names of the figures that rows have, in order: fields, then those of plug-ins' stages."""
    further = sorted({name for row in rows for name in row.further})
    return [*(one.name for one in fields(Row)), *further]
