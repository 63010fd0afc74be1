"""What each stage needs and what its result depends on: one module a stage."""
