"""``python -m securechat``."""

import sys

from securechat.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
