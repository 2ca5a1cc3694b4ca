"""The table of heads, apart from its members so that each of them can import it."""

from egt_tf.registry import Registry

HEADS = Registry("head")
