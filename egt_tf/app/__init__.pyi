# What `__init__.py` imports on first use, for type checkers and editors.
from egt_tf.app.session import Session as Session
