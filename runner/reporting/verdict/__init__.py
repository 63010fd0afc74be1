"""The verdict: which recipe to take, by the limits and the goal of ``decide``, and why."""
