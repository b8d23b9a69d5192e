"""``securechat serve``: relay, key server and audit log on one port; ``--dev`` seeds a clinic."""

import argparse
from pathlib import Path
from typing import Final

from securechat.cli.clinic import DEFAULT_FOLDER
from securechat.settings import SETTINGS

_EPILOG: Final = """\
Every option can be given as an environment variable SECURECHAT_NAME instead.

examples:
  python -m securechat serve --dev
  python -m securechat serve --audience chat.example --app-keys app-keys --data /srv/securechat \\
      --host 0.0.0.0 --port 443 --tls-certificate chain.pem --tls-key key.pem
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``serve``."""
    parser = commands.add_parser(
        "serve",
        help="run the server: relay, key server and audit log on one port",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    dev = parser.add_argument_group("a local clinic")
    dev.add_argument("--dev", action="store_true", help="seed a clinic of seven people and serve it here")
    dev.add_argument("--dir", type=Path, default=DEFAULT_FOLDER, help=f"its folder ({DEFAULT_FOLDER})")
    dev.add_argument("--quiet", action="store_true", help="print nothing but 'ready URL'")
    parser.add_argument(
        "--restored", action="store_true", help="the database comes from a backup: once, at the first start"
    )
    group = parser.add_argument_group("settings")
    for name, text in SETTINGS.items():
        group.add_argument("--" + name.replace("_", "-"), metavar="VALUE", help=text)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    # here and not above: the server's libraries take a second that no other command should pay
    from securechat.cli.serve_root import serve

    options = {name: getattr(args, name) for name in SETTINGS}
    return serve(
        options, clinic_folder=args.dir if args.dev else None, quiet=args.quiet, restored=args.restored
    )
