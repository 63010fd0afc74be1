"""What recipes lose on tasks, task by task, and whether KL divergence foretells it."""
