"""Models, texts, task items and packages."""
