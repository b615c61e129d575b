"""``python -m vec2face COMMAND``; see ``vec2face.cli``."""

import sys

from vec2face.cli import main

if __name__ == "__main__":
    sys.exit(main())
