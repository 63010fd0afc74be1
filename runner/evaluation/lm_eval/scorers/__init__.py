"""Reads and checks generated answers, one suite a file.

Each file has ``process_results(doc, results)``, which lm-evaluation-harness calls, and imports
nothing but the standard library: it is copied beside the task file, so that ``lm_eval`` alone
computes the same scores.
"""
