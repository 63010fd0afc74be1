"""Where models, texts, task items and packages come from."""
