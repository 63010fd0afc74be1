"""Items of the runner's own tasks: from packages or generated, reproducible.

An item is a JSON object with ``text`` and either ``choices`` and ``answer`` (the index of the
right one) or ``target`` (what is to follow).
"""
