"""Linear layers of a decoder block, by input width."""

from runner.config.schema.architecture import Architecture


def linear_inputs(architecture: Architecture) -> dict[str, int]:
    """Input width of each kind of linear layer in a block; empty when dimensions are unknown."""
    hidden, inner = architecture.hidden, architecture.intermediate
    if hidden is None or inner is None:
        return {}
    attention = hidden
    if architecture.heads and architecture.head_dim:
        attention = architecture.heads * architecture.head_dim
    if not architecture.has_gate:
        return {"q/k/v_proj": hidden, "out_proj": attention, "fc1": hidden, "fc2": inner}
    return {
        "q/k/v_proj": hidden,
        "o_proj": attention,
        "gate/up_proj": hidden,
        "down_proj": inner,
    }
