"""The auditor's command line: ``python -m audit verify | query | checkpoint | export``.

Nothing here writes to a log. Exit codes: 0 intact (or answered), 1 tampered with, 2 cannot tell: the file,
the key or the command line is not usable.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from audit.errors import AuditError, CheckpointError, QueryError, SourceError
from audit.export import open_bundle, write_bundle
from audit.note import VerifierKey, parse_vkey
from audit.printing import clean, print_line, print_report, progress, report_json, to_stdout
from audit.report import LogCopy
from audit.source import connect_read_only, is_database, newest_checkpoint, read_log
from audit.verify import verify

EXIT_INTACT: Final = 0
EXIT_TAMPERED: Final = 1
EXIT_CANNOT_TELL: Final = 2

_WHAT_TO_GIVE: Final = "give a server's database (with its -wal file, if there is one) or an export (.zip)"
_ONLY_A_DATABASE: Final = "give a server's database (server.db); a bundle can be verified, not queried"
_DESCRIPTION: Final = "Verify, query and export a tamper-evident audit log. Nothing here changes a log."
_EPILOG: Final = """\
examples:
  python -m audit verify server.db --vkey-file clinic.vkey --remember seen.checkpoint
  python -m audit query server.db --patient pat_7f3a --from 2026-01-01 --to 2026-02-01
  python -m audit query server.db --action 'breakglass.*' --outcome ok --json
  python -m audit checkpoint server.db > today.checkpoint
  python -m audit export server.db log-2026.zip && python -m audit verify log-2026.zip

exit codes: 0 intact or answered; 1 the log was tampered with (the first bad entry is named); 2 cannot tell
"""
_VERIFY_EPILOG: Final = """\
Without --vkey the log is checked against the key that it names itself, and without an earlier checkpoint a
history that was rewritten with the key looks intact: keep a checkpoint outside of the operator's reach.

examples:
  python -m audit verify server.db
  python -m audit verify server.db --vkey-file clinic.vkey --remember seen.checkpoint
  python -m audit verify log.zip --vkey 'clinic.example/audit+1a2b3c4d+AbCd...' --previous seen.checkpoint

exit codes: 0 intact; 1 tampered with; 2 cannot tell
"""
_QUERY_EPILOG: Final = """\
Entries come newest first. Times are ISO 8601, UTC unless they say otherwise; --from is included, --to is not.

examples:
  python -m audit query server.db --actor usr_19c2 --from 2026-03-01
  python -m audit query server.db --outcome deny --limit 20
  python -m audit query server.db --action 'policy.*' --order oldest --json
"""


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code; problems go to stderr in one line."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except QueryError as exc:
        return _fail(exc, "see --help for the filters and their forms")
    except CheckpointError as exc:
        return _fail(exc, "a key looks like name+1a2b3c4d+base64, a checkpoint is what --remember wrote")
    except SourceError as exc:
        return _fail(exc, _WHAT_TO_GIVE)
    except AuditError as exc:
        return _fail(exc, "run: python -m audit verify PATH")
    except BrokenPipeError:
        # The reader (head, less) went away; what is left in the buffer must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTACT
    except OSError as exc:
        return _report(f"{exc.filename}: {exc.strerror}", "check path and permissions", "file_unusable")


def _parser() -> argparse.ArgumentParser:
    parser = _with_epilog(argparse.ArgumentParser(prog="python -m audit", description=_DESCRIPTION), _EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    check = commands.add_parser("verify", help="check a whole log and name the first entry that is wrong")
    _with_epilog(check, _VERIFY_EPILOG)
    check.add_argument("path", type=Path, metavar="PATH", help="a server's database or an export bundle")
    keys = check.add_mutually_exclusive_group()
    keys.add_argument("--vkey", metavar="KEY", help="the log's verifier key, as you got it from the operator")
    keys.add_argument("--vkey-file", type=Path, metavar="FILE", help="a file that holds this key")
    check.add_argument("--previous", type=Path, metavar="FILE", help="checkpoint kept from an earlier check")
    check.add_argument(
        "--remember",
        type=Path,
        metavar="FILE",
        help="compare with the checkpoint in FILE, if there is one; keep the newest there if all is intact",
    )
    check.add_argument("--json", action="store_true", help="print one JSON object")

    query = _with_epilog(
        commands.add_parser("query", help="list entries of a server's database"), _QUERY_EPILOG
    )
    query.add_argument("path", type=Path, metavar="PATH", help="a server's database")
    query.add_argument("--actor", metavar="ID", help="who acted")
    query.add_argument(
        "--action", metavar="TYPE", help="an event type (message.send) or an area ('message.*')"
    )
    query.add_argument("--object", metavar="ID", help="what was acted on")
    query.add_argument("--patient", metavar="TAG", help="the patient's tag")
    query.add_argument("--outcome", metavar="OUTCOME", help="ok, deny or error")
    query.add_argument("--org", metavar="ID", help="the organisation")
    query.add_argument(
        "--from", metavar="TIME", help="first time, e.g. 2026-03-01 or 2026-03-01T08:30:00+01:00"
    )
    query.add_argument("--to", metavar="TIME", help="time before which entries lie")
    query.add_argument("--order", metavar="ORDER", help="newest (default) or oldest first")
    query.add_argument("--limit", metavar="N", help="entries to show, 1 to 1000 (default 100)")
    query.add_argument("--cursor", metavar="SEQ", help="go on after this entry, as the last page said")
    query.add_argument("--json", action="store_true", help="print one JSON object: items and next_cursor")

    newest = commands.add_parser("checkpoint", help="print the newest checkpoint, a signed note")
    newest.add_argument("path", type=Path, metavar="PATH", help="a server's database or an export bundle")

    export = commands.add_parser("export", help="write the log as a bundle that can be verified elsewhere")
    export.add_argument("path", type=Path, metavar="PATH", help="a server's database")
    export.add_argument("out", type=Path, metavar="OUT", help="the zip file to write; it must not exist")
    return parser


def _with_epilog(parser: argparse.ArgumentParser, epilog: str) -> argparse.ArgumentParser:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = epilog
    return parser


def _run(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "verify":
            return _verify(arguments)
        case "query":
            return _query(arguments)
        case "checkpoint":
            return _checkpoint(arguments.path)
        case _:
            return _export(arguments.path, arguments.out)


def _verify(arguments: argparse.Namespace) -> int:
    key = _given_key(arguments.vkey, arguments.vkey_file)
    remember: Path | None = arguments.remember
    earlier: Path | None = arguments.previous
    if earlier is None and remember is not None and remember.exists():
        earlier = remember
    previous = None if earlier is None else earlier.read_bytes()
    with _open_log(arguments.path) as copy, progress(copy) as watched:
        report = verify(watched, key=key, previous=previous)
    if remember is not None and report.intact and report.newest is not None:
        _replace(remember, report.newest.note)
    if arguments.json:
        print_line(report_json(report))
    else:
        print_report(report, earlier, remember)
    return EXIT_INTACT if report.intact else EXIT_TAMPERED


def _query(arguments: argparse.Namespace) -> int:
    # Only this command needs SQLAlchemy; an auditor without it can still verify.
    from audit.querying import run_query

    if not is_database(arguments.path):
        return _report("the file is no SQLite database", _ONLY_A_DATABASE, SourceError.code)
    return run_query(arguments)


def _checkpoint(path: Path) -> int:
    if is_database(path):
        with connect_read_only(path) as connection:
            stored = newest_checkpoint(connection)
    else:
        with open_bundle(path) as copy:
            stored = next(iter(copy.checkpoints), None)
    if stored is None:
        raise SourceError("the log has no checkpoint")
    to_stdout(stored.note)
    return EXIT_INTACT


def _export(path: Path, out: Path) -> int:
    if out.exists():
        return _report(f"{out} exists", "choose another name, nothing is overwritten", "file_unusable")
    with connect_read_only(path) as connection:
        copy = read_log(connection)
        stored = newest_checkpoint(connection)
        if stored is None:
            raise SourceError("the log has no checkpoint")
        with _written_whole(out) as file:
            checkpoint = write_bundle(file, copy.rows, stored.note, copy.vkey)
    print_line(f"{out}: {checkpoint.size} entries")
    return EXIT_INTACT


@contextmanager
def _open_log(path: Path) -> Iterator[LogCopy]:
    """Open a database or a bundle for verification, whichever the file is."""
    if is_database(path):
        with connect_read_only(path) as connection:
            yield read_log(connection)
    else:
        with open_bundle(path) as copy:
            yield copy


def _given_key(text: str | None, file: Path | None) -> VerifierKey | None:
    if file is not None:
        text = file.read_text(encoding="utf-8", errors="replace")
    return None if text is None else parse_vkey(text)


def _replace(path: Path, data: bytes) -> None:
    """Write ``path`` whole or not at all."""
    with _written_whole(path) as file:
        file.write(data)


@contextmanager
def _written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Give a file beside ``path`` that takes its place, once it is written and synced to disk."""
    with tempfile.NamedTemporaryFile(
        dir=path.absolute().parent, prefix=f".{path.name}.", delete=False
    ) as file:
        try:
            yield file.file
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:  # also on Ctrl-C: no half file stays behind
            Path(file.name).unlink(missing_ok=True)
            raise


def _fail(problem: AuditError, hint: str) -> int:
    return _report(str(problem), hint, problem.code)


def _report(problem: str, hint: str, code: str) -> int:
    """Write one line to stderr: what is wrong, a hint, the stable code."""
    sys.stderr.write(f"audit: {clean(problem)}; {hint} [{code}]\n")
    return EXIT_CANNOT_TELL
