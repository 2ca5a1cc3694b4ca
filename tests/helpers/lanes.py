"""What only one of the two sets of packages has (docs/installing.md)."""

from __future__ import annotations

import pytest

from egt_tf.keras_api import LANE

needs_innvestigate = pytest.mark.skipif(LANE != "classic", reason="innvestigate needs TensorFlow 2.14")
"""Mark of a test that asks innvestigate itself."""
