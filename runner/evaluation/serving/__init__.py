"""An engine's own server under load, as its users meet it."""
