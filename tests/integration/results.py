"""What stages found, read from the records of runs."""

from typing import Any


def result(record: dict[str, Any], stage: str, subject: str = "recipe") -> dict[str, Any]:
    """Of a run's stage; the only one of its name and subject."""
    (entry,) = [s for s in record["stages"] if (s["stage"], s["subject"]) == (stage, subject)]
    content: dict[str, Any] = entry["result"]
    return content


def perplexity(record: dict[str, Any], subject: str = "recipe") -> float:
    """On the evaluation text."""
    value: float = result(record, "eval", subject)["perplexity"]["value"]
    return value


def divergence(record: dict[str, Any]) -> float:
    """Mean KL divergence from the unquantized model, in nats a token."""
    found = result(record, "eval")["divergence"]
    value: float = found["kl_divergence"]["mean"]["estimate"]
    return value


def loss(record: dict[str, Any], subject: str = "baseline") -> float:
    """Mean loss in nats a token."""
    losses = result(record, "eval", subject)["perplexity"]["window_losses"]
    return float(sum(losses) / len(losses))
