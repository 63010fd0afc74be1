"""Hands a checkpoint on: as a directory with a model card, or to the hub."""
