"""Which tokens of a text were evaluated, and what their interval treats as independent."""

from dataclasses import dataclass, field

SPREAD, LEADING = "spread", "leading"
DOCUMENTS, WINDOWS = "documents", "windows"


@dataclass
class Sample:
    """The evaluated tokens. The defaults are what is known of records older than this."""

    sampling: str = LEADING
    """``spread`` evenly over the text's documents, or ``leading``: contiguous from its start."""
    bos: bool = False
    """Whether every window begins with a BOS that the text does not have there."""
    tokens_sha256: str = ""
    """Digest of all windows' tokens and of how many of each are scored; empty where unknown."""
    documents: int = 0
    """Documents that the windows lie in; 0 where unknown."""
    documents_available: int = 0
    """Documents of the text."""
    window_documents: list[int] = field(default_factory=list)
    """Of each window, the number of its document: windows with equal numbers are a cluster."""
    left_out: int = 0
    """Windows of almost no distinct tokens that were passed over."""
    clusters: str = WINDOWS
    """What intervals take as independent: ``documents``, or ``windows`` where all are of one (or,
    in older records, of unknown ones)."""

    def independent(self, windows: int | None = None) -> list[int] | None:
        """Of each window, which independent cluster it belongs to; ``None``: its own.

        Args:
            windows: So many of the first ones; by default all.
        """
        documents = self.window_documents[:windows]
        return documents if self.clusters == DOCUMENTS and len(set(documents)) > 1 else None


def describe(sample: Sample, icc: float | None, effective_windows: float | None) -> str | None:
    """What stands behind an interval, as a sentence for people.

    Args:
        sample: Of a ``Perplexity``.
        icc: Its intraclass correlation.
        effective_windows: And the number of independent windows that would say as much.

    Returns:
        ``None`` for older records, of which nothing is known.
    """
    count, documents = len(sample.window_documents), sample.documents
    if not count:
        return None
    where = (
        f"spread over {documents} of {sample.documents_available} documents"
        if sample.sampling == SPREAD
        else f"from the start of the text, in {documents} of {sample.documents_available} documents"
    )
    described = f"{count} windows {where}"
    if documents == 1:
        return (
            f"{described}; intervals describe that document only and treat windows as independent"
        )
    if documents == count:
        described += ", one per document"
    else:
        described += ", which intervals treat as clusters"
        if icc is not None and effective_windows is not None:
            described += (
                f" (intraclass correlation {icc:.2f}: worth {effective_windows:.1f} independent "
                "windows)"
            )
    if sample.left_out:
        described += f"; {sample.left_out} skipped, with almost no distinct tokens"
    return described
