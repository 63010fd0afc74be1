"""Items of our own tasks: read out of packages or generated, the same ones for the same settings.

An item is a JSON object with ``text`` and either ``choices`` and ``answer`` (the index of the
right one) or ``target`` (what is to follow).
"""
