"""What methods of one library have in common: one module a backend."""
