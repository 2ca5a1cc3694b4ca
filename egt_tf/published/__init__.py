"""Checkpoints of the published PyTorch code: how they are read, what their arrays are called, how they become runs."""
