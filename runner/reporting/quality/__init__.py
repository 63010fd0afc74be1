"""What records say of quality, and which differences of it are shown and not noise."""
