"""Tells people what the demo does and found: progress, tables, a verdict."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from securechat.cli.demo.conduct import Course
from securechat.cli.demo.evidence import Verification
from securechat.cli.demo.facts import Facts
from securechat.cli.demo.processes import ClientProcess
from securechat.cli.demo.protocol import AuditAnswer, Received

_SHOWN_BYTES = 96
_SHOWN_ROWS = 2
_ID_WIDTH = 8  # columns that tell two ids apart


class Reporter:
    """Prints to one console, or nothing if ``quiet``."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=console,
            disable=quiet,
        )

    def begin(self, turns: int) -> None:
        """Announce the run."""
        self._print(
            "[bold]SecureChat demo[/]: a patient and a clinician talk through a real relay on this machine"
        )
        self._print("one server process, two client processes with encrypted stores\n", style="dim")
        self._progress.add_task("messages read", total=turns)
        self._progress.start()

    def progress(self, turns: int, text: str) -> None:
        """Move the bar by ``turns``, or say what happens."""
        if text:
            self._progress.console.print(f"  [yellow]*[/] {text}") if not self._quiet else None
        self._progress.advance(self._progress.task_ids[0], turns)

    def end_of_conversation(self) -> None:
        """Close the bar."""
        self._progress.stop()
        self._print("")

    def side_by_side(self, course: Course, clinician: ClientProcess) -> None:
        """Show what the clinician read beside what the server held for the same messages."""
        read = {item.message_id: item.text for item in clinician.reports if isinstance(item, Received)}
        rows = [item for item in course.queued if item.message_id in read]
        rows = sorted(rows, key=lambda item: len(read[item.message_id]), reverse=True)[:_SHOWN_ROWS]
        table = Table(title="The same messages, twice", title_justify="left", expand=True, show_lines=True)
        table.add_column("what the clinician read", ratio=1)
        table.add_column("what the server's database held", ratio=1, style="dim")
        for row in rows:
            stored = f"{_hex(row.body)} ... ({len(row.body):,} bytes)"
            table.add_row(Text(_shorten(read[row.message_id])), Text(stored))
        self._print_table(table)

    def audit(
        self,
        officer: AuditAnswer,
        intact: Verification,
        tampered: Verification,
        changed: int,
        patient: AuditAnswer,
    ) -> None:
        """Show the auditor's four steps."""
        self._print_table(_officers_table(officer))
        table = Table(title="The audit log on trial", title_justify="left", expand=True)
        table.add_column("who")
        table.add_column("does", ratio=1)
        table.add_column("and gets", ratio=2)
        table.add_row(
            "compliance officer", "queries the log over the API", f"the clinic's {officer.rows} entries"
        )
        table.add_row("auditor, offline", "verifies the server's database", _sentence(intact))
        table.add_row("insider", f"changes one byte of entry {changed} in a copy", _sentence(tampered))
        table.add_row("patient", "asks for the audit log", f"refused by the rule {patient.rule}")
        self._print_table(table)

    def verdict(self, facts: Facts) -> None:
        """Say the final word, naming each check that failed."""
        bad = list(_failures(facts))
        lines = [
            _delivery_line(facts),
            f"{facts.queued_while_offline} waited for the offline side; {facts.server_kills} x SIGKILL",
            _audit_line(facts),
            f"{facts.seconds:.1f} s",
        ]
        title = (
            "[bold green]ALL CHECKS HOLD[/]" if facts.ok else "[bold red]FAILED: " + ", ".join(bad) + "[/]"
        )
        if not self._quiet:
            self._console.print(Panel("\n".join(lines), title=title, title_align="left"))

    def _print(self, text: str, style: str | None = None) -> None:
        if not self._quiet:
            self._console.print(text, style=style)

    def _print_table(self, table: Table) -> None:
        if not self._quiet:
            self._console.print(table)
            self._console.print("")


def _officers_table(officer: AuditAnswer) -> Table:
    title = f"What the compliance officer sees: the newest of the clinic's {officer.rows} entries"
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for column in ("", "UTC", "who", "did", "to", "outcome", "by the rules"):
        # One line a row also at 80 columns: only ids, long and opaque, are cut short.
        width = _ID_WIDTH if column in ("who", "to") else None
        table.add_column(column, overflow="ellipsis", no_wrap=True, width=width)
    for line in officer.newest:
        cells = (str(line.seq), line.time, line.actor, line.action, line.object, line.outcome, line.rules)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _delivery_line(facts: Facts) -> str:
    counts = f"{facts.lost} lost, {facts.duplicated} doubled, {facts.reordered} out of order"
    return f"{facts.delivered} of {facts.messages} messages delivered; {counts}"


def _audit_line(facts: Facts) -> str:
    verified = "verified" if facts.audit_verified else "NOT verified"
    named = f"; the changed entry {facts.tampered_entry} was named" if facts.tamper_detected else ""
    return f"audit log: {facts.audit_entries} entries, {verified}{named}"


def _failures(facts: Facts) -> Sequence[str]:
    checks = {
        "messages lost": facts.lost == 0,
        "messages doubled": facts.duplicated == 0,
        "messages out of order": facts.reordered == 0,
        "nothing was queued": facts.queued_while_offline > 0,
        "the server was not killed": facts.server_kills > 0,
        "safety numbers differ": facts.safety_numbers_equal,
        "plaintext on the server": not facts.plaintext_on_server,
        "audit log not verified": facts.audit_verified,
        "tampering not detected": facts.tamper_detected,
        "patient not refused": facts.denied,
        "officer saw nothing": facts.officer_rows > 0,
    }
    return [name for name, held in checks.items() if not held]


def _sentence(answer: Verification) -> str:
    return answer.sentence or f"exit status {answer.status}"


def _hex(raw: bytes) -> str:
    return raw[:_SHOWN_BYTES].hex(" ", 4)


def _shorten(text: str) -> str:
    return text if len(text) <= 400 else text[:400] + " ..."
