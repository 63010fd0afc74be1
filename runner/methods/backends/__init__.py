"""Quantization libraries, one module each, with what their methods share."""
