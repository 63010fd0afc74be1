"""Worker processes, which do the heavy work outside the control process.

``pool`` is the control side; ``server`` and ``job`` run in an environment's interpreter.
"""
