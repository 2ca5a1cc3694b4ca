"""The fixtures of tests/helpers/exported_models.py."""

from tests.helpers.exported_models import *  # noqa: F403 (pytest finds fixtures by their names in this module)
