"""The table of backbones, apart from its members so that each of them can import it."""

from egt_tf.registry import Registry

BACKBONES = Registry("backbone")
