"""Examples of what can be added to quant-runner without editing it."""
