"""Quality as recorded, and which of its differences are more than noise."""
