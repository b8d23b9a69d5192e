"""The command line of SecureChat: one word per job."""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from securechat.cli import policy, serve, talk, token
from securechat.cli.clinic import START_HINT
from securechat.cli.demo import command as demo
from securechat.cli.error_groups import first_error
from securechat.cli.exit_codes import ExitCode
from securechat.errors import (
    AccessDeniedError,
    AuthenticationError,
    InvalidIdError,
    SecureChatError,
    ServerError,
    SettingsError,
    StoreError,
    TransportError,
)

_DESCRIPTION = "End-to-end encrypted messaging for health care: client, relay, key server, audit log."
_EPILOG = """\
start here:
  python -m securechat demo                      the main job end to end on this machine
  python -m securechat serve --dev               a local clinic with seeded people
  python -m securechat chat --as pat             talk, in a second terminal
  python -m securechat chat --as dr-lee          and answer, in a third

In a clone, ./dev run stands for python inside the environment: ./dev run -m securechat demo

exit status: 0 done, 1 failed, 2 wrong usage or setting, 3 refused by policy or log-in, 4 server unreachable,
5 local store unusable, 130 interrupted.
"""

# By the code of the error, or the server's where it refused.
_HINTS: Final = {
    "device_list_conflict": "; this person was enrolled with another store: put it back",
    "store_locked": "; end the other command that uses it",
    "store_wrong_key": "; key and store must belong together",
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m securechat",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve.register(commands)
    demo.register(commands)
    talk.register(commands)
    token.register(commands)
    policy.register(commands)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; an error is one line with a hint."""
    args = build_parser().parse_args(arguments)
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away; nothing more can be said
        return ExitCode.OK
    except SecureChatError as error:
        return _explain(error)
    except OSError as error:
        return _explain_file(error)
    except BaseExceptionGroup as group:
        errors, rest = group.split(SecureChatError)
        if errors is None or rest is not None:
            raise
        return _explain(first_error(errors))


def _explain(error: SecureChatError) -> int:
    status, hint = _status_and_hint(error)
    sys.stderr.write(f"securechat: {error}{hint} [{error.code}]\n")
    return status


def _explain_file(error: OSError) -> int:
    """Tell of a file or folder that cannot be used, or of the disk below it."""
    place = f"{error.filename}: " if error.filename else ""
    sys.stderr.write(f"securechat: {place}{error.strerror or 'input or output failed'} [file_unusable]\n")
    return ExitCode.USAGE if error.filename else ExitCode.FAILED


def _status_and_hint(error: SecureChatError) -> tuple[ExitCode, str]:
    match error:
        case SettingsError() | InvalidIdError():
            return ExitCode.USAGE, ""
        case AccessDeniedError() | AuthenticationError():
            return ExitCode.REFUSED, ""
        case ServerError(status=401 | 403):
            return ExitCode.REFUSED, ""
        case ServerError():
            return ExitCode.FAILED, _HINTS.get(error.server_code, "")
        case TransportError():
            return ExitCode.UNREACHABLE, f"; is the server running? start it: {START_HINT}"
        case StoreError():
            return ExitCode.STORE, _HINTS.get(error.code, "")
        case _:
            return ExitCode.FAILED, ""
