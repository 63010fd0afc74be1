"""The layers of a model, as its config.json describes them."""
