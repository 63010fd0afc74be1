"""What a loaded model is measured with: clock, memory, energy."""
