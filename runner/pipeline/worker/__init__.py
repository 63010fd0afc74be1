"""Processes that do the heavy work, apart from the control process.

``pool`` is the control side; ``server`` and ``job`` run in an environment's interpreter.
"""
