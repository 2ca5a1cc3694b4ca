"""The command line of egt-tf, one file a command; installed as the package `egt_tf_cli`."""

import sys

try:
    import egt_tf  # noqa: F401
except ImportError as error:
    # Packages that do not fit each other: no command can run, and nothing that prints errors can be imported yet.
    if error.name != "egt_tf" or "--debug" in sys.argv:
        raise
    sys.stderr.write(f"Error: {error}\n")
    raise SystemExit(2) from None
