"""Where models come from, and what identifies them."""
