"""A local page for people without a terminal: what one visitor has taught, and the page itself."""

from __future__ import annotations

from egt_tf.lazy import lazy_names

# Lazily, since what is wrong with a port is found out without TensorFlow.
__getattr__, __dir__, __all__ = lazy_names(__name__, {"egt_tf.app.session": ["Session"]})
