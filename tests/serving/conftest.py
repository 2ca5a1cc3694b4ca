"""The fixtures of tests/helpers/exported_models.py."""

from tests.helpers.exported_models import (
    build,
    folder,
    model,
    portable,
    prepared,
    query_files,
    relation,
    served_alone,
    support,
    support_files,
)

__all__ = [
    "build",
    "folder",
    "model",
    "portable",
    "prepared",
    "query_files",
    "relation",
    "served_alone",
    "support",
    "support_files",
]
