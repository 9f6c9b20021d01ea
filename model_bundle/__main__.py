"""``python -m model_bundle``: build, verify and inspect model bundles."""

import sys

from model_bundle.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
