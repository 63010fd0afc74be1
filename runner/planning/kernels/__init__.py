"""What kernels reach of a device's limits, as tables, and the times that follow from it."""
