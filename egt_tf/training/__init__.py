"""Training with explanation guidance."""
