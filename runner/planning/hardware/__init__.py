"""What the machine at hand is and what it can do."""
