"""What rounding each layer alone costs, measured without running the whole model each time."""
