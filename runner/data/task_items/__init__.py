"""Items of the runner's own tasks: from packages or generated, reproducible.

An item is a JSON object with ``text`` and either ``choices`` and ``answer`` (the index of the
right one) or ``target`` (what is to follow). Items of suites also have ``level``: from trivial to
hard, so that for any model there are some that it gets right and some that it does not.
"""

EXAMPLE_LEVEL = 0
"""Level of examples in prompts, which is that of no item that is asked."""
