"""Which tokens of a text were evaluated, and what an interval over them takes as independent."""

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
    """What intervals take as independent: ``documents``, or ``windows`` where all are of one."""
