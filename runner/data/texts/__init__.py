"""Where texts come from, and how windows of tokens are cut from them."""
