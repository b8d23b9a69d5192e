"""What the command line prints: tables for people, one JSON object for machines."""

import base64
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from audit.entry import Entry
from audit.report import LogCopy, Report, StoredRow
from audit.times import format_time

_PIPE_WIDTH: Final = 180  # columns where the output is no terminal
_TABLE_WIDTH: Final = 160  # columns below which a table of entries would cut ids and rules short
_TICK: Final = 1000  # entries between two steps of the progress bar


def print_report(report: Report, earlier: Path | None, remember: Path | None) -> None:
    """Print the verdict first, then what was found, then what could not be excluded."""
    console = _console()
    if report.intact:
        console.print(Text(f"INTACT: {report.entries} entries of {clean(report.origin)}", "bold green"))
    else:
        console.print(Text(_verdict(report), "bold red"))
    console.print(_facts(report))
    if report.findings:
        console.print(_findings(report))
    if earlier is not None and report.intact:
        console.print(Text(f"The log extends the checkpoint in {earlier}."))
    for caveat in report.caveats:
        console.print(Text("Note: " + caveat.value, "yellow"))
    if remember is not None:
        kept = f"The newest checkpoint was kept in {remember}."
        console.print(Text(kept if report.intact else f"{remember} was left as it was."))


def report_json(report: Report) -> str:
    """Return the report as one JSON object; ``root`` is base64, times are ISO 8601 or null."""
    return json.dumps(
        {
            "ok": report.intact,
            "origin": report.origin,
            "entries": report.entries,
            "checkpoints": report.checkpoints,
            "root": base64.b64encode(report.root).decode(),
            "first_time": None if report.first_t is None else format_time(report.first_t),
            "last_time": None if report.last_t is None else format_time(report.last_t),
            "first_bad": report.first_bad,
            "first_bad_is_exact": report.first_bad_is_exact,
            "findings": [
                {"kind": each.kind.value, "seq": each.seq, "text": each.text} for each in report.findings
            ],
            "more_findings": report.more_findings,
            "caveats": [each.name.lower() for each in report.caveats],
        }
    )


def print_entries(entries: list[Entry], next_cursor: int | None) -> None:
    """Print one page of entries and how to see the next: a table, on a narrow terminal a few lines each."""
    console = _console()
    if console.width >= _TABLE_WIDTH:
        console.print(_table(entries))
    else:
        for entry in entries:
            console.print(_lines(entry), soft_wrap=True)
    console.print(Text("1 entry" if len(entries) == 1 else f"{len(entries)} entries"))
    if next_cursor is not None:
        console.print(Text(f"There are more: repeat with --cursor {next_cursor}"))


@contextmanager
def progress(copy: LogCopy) -> Iterator[LogCopy]:
    """Give ``copy`` with rows that show a progress bar on stderr, if that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield copy
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("verifying", total=copy.head.size if copy.head else None)

        def watched() -> Iterator[StoredRow]:
            for count, row in enumerate(copy.rows, 1):
                if count % _TICK == 0:
                    bar.advance(task, _TICK)
                yield row

        yield replace(copy, rows=watched())


def print_line(text: str) -> None:
    """Print one line as it is."""
    to_stdout(text.encode() + b"\n")


def to_stdout(data: bytes) -> None:
    """Write bytes as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def clean(text: str) -> str:
    """Replace what could steer a terminal; a log that was tampered with can hold anything."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def _verdict(report: Report) -> str:
    if report.first_bad is None:
        return "TAMPERED WITH: the log does not hold"
    if not report.first_bad_is_exact:
        return f"TAMPERED WITH: first bad entry {report.first_bad}, or one soon after it"
    return f"TAMPERED WITH: first bad entry {report.first_bad}"


def _facts(report: Report) -> Table:
    table = Table(show_header=False, box=None)
    table.add_row("origin", Text(clean(report.origin)))
    table.add_row("entries", Text(str(report.entries)))
    table.add_row("checkpoints", Text(str(report.checkpoints)))
    table.add_row("root", Text(base64.b64encode(report.root).decode()))
    if report.first_t is not None and report.last_t is not None:
        table.add_row("from", Text(format_time(report.first_t)))
        table.add_row("to", Text(format_time(report.last_t)))
    return table


def _findings(report: Report) -> Table:
    table = Table("entry", "what", "finding")
    for each in report.findings:
        where = "" if each.seq is None else str(each.seq)
        table.add_row(where, each.kind.value, Text(clean(each.text)))
    if report.more_findings:
        table.add_row("", "", f"and {report.more_findings} more")
    return table


def _table(entries: list[Entry]) -> Table:
    table = Table(
        "seq", "time (UTC)", "type", "outcome", "actor", "object", "patient", "reason", "policies", "n"
    )
    for entry in entries:
        table.add_row(*_cells(entry))
    return table


def _lines(entry: Entry) -> Text:
    """Return what ``_cells`` holds, nothing cut: number, time, type, outcome; then who, to what and why."""
    seq, time, kind, outcome, actor, target, patient, reason, policies, count = _cells(entry)
    text = Text.assemble(seq, "  ", time, "  ", kind, "  ", outcome)
    if count:
        text.append_text(Text.assemble("  (", count, " times)"))
    indent = "\n" + " " * (len(seq) + 2)
    text.append_text(Text.assemble(indent, actor))
    for name, value in (("to ", target), ("patient ", patient), ("because ", reason), ("by ", policies)):
        if value and not (value is reason and reason.plain == policies.plain):
            text.append_text(Text.assemble(indent, name, value))
    return text


def _cells(entry: Entry) -> tuple[Text, ...]:
    event = entry.event
    target = "" if event.object is None else f"{event.object.kind} {event.object.id}"
    policies = "" if event.policy is None else " ".join(event.policy.ids)
    style = "" if event.outcome.value == "ok" else "bold red"
    return (
        Text(str(entry.seq)),
        Text(format_time(entry.t)),
        Text(event.type.value),
        Text(event.outcome.value, style),
        Text(event.actor.id),
        Text(target),
        Text(event.patient or ""),
        Text(event.reason or ""),
        Text(policies),
        Text(str(event.n) if event.n != 1 else ""),
    )
