"""The cost of rounding each layer alone, without a full forward pass for each."""
