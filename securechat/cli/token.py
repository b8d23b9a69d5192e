"""``securechat token``: keys and tokens of a telehealth app's backend."""

import argparse
import sys
from pathlib import Path

from securechat.cli.exit_codes import ExitCode
from securechat.ids import org_id, user_id
from securechat.tokens import TokenMinter, generate_mint_key

_EPILOG = """\
examples:
  python -m securechat token keygen mint.key --app my-app --key-id 2026-11 --audience chat.example
  python -m securechat token mint --key mint.key --user u-7f3 --org org-1 --role patient
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``token keygen`` and ``token mint``."""
    parser = commands.add_parser(
        "token",
        help="make an app's signing key; mint short-lived user tokens",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    keygen = actions.add_parser("keygen", help="make a signing key; prints the line that registers it")
    keygen.add_argument("file", type=Path, help="where the private key goes (mode 0600, never overwritten)")
    keygen.add_argument("--app", required=True, help="id of the app (the token's issuer)")
    keygen.add_argument("--key-id", required=True, help="id of this key (the token's kid)")
    keygen.add_argument("--audience", required=True, help="audience that the server expects")
    keygen.set_defaults(run=_keygen)
    mint = actions.add_parser("mint", help="print one token")
    mint.add_argument("--key", type=Path, required=True, help="file made by keygen")
    mint.add_argument("--user", required=True, help="opaque user id")
    mint.add_argument("--org", required=True, help="organisation id")
    mint.add_argument("--role", action="append", required=True, help="role; may be given more than once")
    mint.add_argument("--ttl", type=int, default=600, metavar="SECONDS", help="1 to 900, default 600")
    mint.add_argument("--mfa", action="store_true", help="the user passed a second factor")
    mint.set_defaults(run=_mint)


def _keygen(args: argparse.Namespace) -> int:
    registration = generate_mint_key(args.file, app_id=args.app, kid=args.key_id, audience=args.audience)
    sys.stdout.write(registration + "\n")
    return ExitCode.OK


def _mint(args: argparse.Namespace) -> int:
    minter = TokenMinter.from_file(args.key)
    token = minter.mint(
        user_id(args.user), org=org_id(args.org), roles=args.role, ttl_s=args.ttl, mfa=args.mfa
    )
    sys.stdout.write(token + "\n")
    return ExitCode.OK
