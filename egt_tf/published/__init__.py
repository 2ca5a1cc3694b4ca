"""Checkpoints of the published PyTorch code: how they are read, what their arrays are called, how they become runs."""

from egt_tf.published.checkpoint import load_checkpoint
from egt_tf.published.convert import Choices, Conversion, convert_arrays, convert_checkpoint

__all__ = ["Choices", "Conversion", "convert_arrays", "convert_checkpoint", "load_checkpoint"]
