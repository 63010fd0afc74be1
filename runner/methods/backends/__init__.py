"""Quantization libraries: what the methods of one library share, one module each."""
