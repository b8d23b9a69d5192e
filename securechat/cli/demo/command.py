"""``securechat demo``: runs the whole and says whether every check held."""

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console

from securechat.cli.clinic import seed_clinic
from securechat.cli.demo import evidence
from securechat.cli.demo.conduct import Course, Stage, hold, stage
from securechat.cli.demo.facts import DeliveryCheck, Facts, check_delivery
from securechat.cli.demo.processes import ClientProcess
from securechat.cli.demo.protocol import AskAudit, AuditAnswer, Received, SafetyNumber, ShowSafetyNumber
from securechat.cli.demo.report import Reporter
from securechat.cli.demo.script import DEFAULT_SCRIPT, Side, Turn, read_script
from securechat.cli.exit_codes import ExitCode


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``demo``."""
    summary = "hold a consultation end to end on this machine and check everything"
    parser = commands.add_parser("demo", help=summary, description=summary)
    parser.add_argument("--json", action="store_true", help="print the facts as one JSON object")
    parser.add_argument(
        "--script", type=Path, default=DEFAULT_SCRIPT, help="another consultation (JSON lines)"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="work in FOLDER (must not exist) and keep it"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; exit status 0 only if every check holds."""
    turns = read_script(args.script)
    reporter = Reporter(
        Console(file=sys.stderr if args.json else sys.stdout, highlight=False), quiet=args.json
    )
    folder = args.keep or Path(tempfile.mkdtemp(prefix="securechat-demo-"))
    folder.mkdir(mode=0o700, exist_ok=args.keep is None)
    try:
        facts = asyncio.run(_Demo(folder, args.script, turns, reporter).run())
    finally:
        if args.keep is None:
            evidence.remove(folder)
    if args.json:
        sys.stdout.write(msgspec.json.encode(facts).decode() + "\n")
    return ExitCode.OK if facts.ok else ExitCode.FAILED


@dataclass(frozen=True, slots=True)
class _Audit:
    """What the officer, the verifier and the refused patient saw."""

    officer: AuditAnswer
    patient: AuditAnswer
    intact: evidence.Verification
    tampered: evidence.Verification
    changed_entry: int


class _Demo:
    def __init__(self, folder: Path, script: Path, turns: tuple[Turn, ...], reporter: Reporter) -> None:
        self._folder = folder
        self._script = script
        self._turns = turns
        self._reporter = reporter

    async def run(self) -> Facts:
        began = time.monotonic()
        seed_clinic(self._folder)
        self._reporter.begin(len(self._turns))
        async with stage(self._folder, self._script) as on_stage:
            course = await hold(on_stage, self._turns, self._reporter.progress)
            self._reporter.end_of_conversation()
            numbers = await self._safety_numbers(on_stage)
            checks = {side: self._delivery(on_stage, side) for side in on_stage.clients}
            audit = await self._audit(on_stage)
            plaintext = evidence.server_holds(self._folder / "server", [turn.text for turn in self._turns])
            self._reporter.side_by_side(course, on_stage.clients["clinician"])
            kills = on_stage.server.kills
        facts = _facts(checks, course, audit, numbers, plaintext, kills, time.monotonic() - began)
        self._reporter.audit(audit.officer, audit.intact, audit.tampered, audit.changed_entry, audit.patient)
        self._reporter.verdict(facts)
        return facts

    def _delivery(self, on_stage: Stage, reader: Side) -> DeliveryCheck:
        expected = [turn.text for turn in self._turns if turn.side != reader]
        got = [report.text for report in on_stage.clients[reader].reports if isinstance(report, Received)]
        return check_delivery(expected, got)

    async def _safety_numbers(self, on_stage: Stage) -> set[str]:
        patient, clinician = on_stage.clients["patient"], on_stage.clients["clinician"]
        await patient.tell(ShowSafetyNumber(peer=clinician.handle))
        await clinician.tell(ShowSafetyNumber(peer=patient.handle))
        return {(await client.expect(SafetyNumber)).digits for client in (patient, clinician)}

    async def _audit(self, on_stage: Stage) -> _Audit:
        officer_client = ClientProcess("officer-ruiz", self._folder, self._script)
        try:
            await officer_client.start()
            officer = await _ask(officer_client)
        finally:
            await officer_client.stop()
        patient = await _ask(on_stage.clients["patient"])
        key_file = self._folder / "server" / "audit.vkey"
        intact = evidence.verify(on_stage.database, key_file=key_file)
        copy = self._folder / "copy.db"
        evidence.copy_database(on_stage.database, copy)
        changed = intact.entries // 2
        evidence.flip_one_byte(copy, changed)
        return _Audit(officer, patient, intact, evidence.verify(copy, key_file=key_file), changed)


async def _ask(client: ClientProcess) -> AuditAnswer:
    await client.tell(AskAudit())
    return await client.expect(AuditAnswer)


def _facts(
    checks: dict[Side, DeliveryCheck],
    course: Course,
    audit: _Audit,
    safety_numbers: set[str],
    plaintext_on_server: bool,
    kills: int,
    seconds: float,
) -> Facts:
    messages = sum(check.expected for check in checks.values())
    lost = sum(check.lost for check in checks.values())
    duplicated = sum(check.duplicated for check in checks.values())
    reordered = sum(check.reordered for check in checks.values())
    verified = audit.intact.status == 0
    detected = audit.tampered.status == 1 and audit.tampered.first_bad == audit.changed_entry
    denied = not audit.patient.allowed and bool(audit.patient.rule)
    return Facts(
        messages=messages,
        delivered=sum(check.delivered for check in checks.values()),
        lost=lost,
        duplicated=duplicated,
        reordered=reordered,
        queued_while_offline=len(course.queued),
        server_kills=kills,
        safety_numbers_equal=len(safety_numbers) == 1,
        plaintext_on_server=plaintext_on_server,
        audit_entries=audit.intact.entries,
        audit_verified=verified,
        tamper_detected=detected,
        tampered_entry=audit.tampered.first_bad,
        denied=denied,
        denied_by=audit.patient.rule,
        officer_rows=audit.officer.rows,
        seconds=round(seconds, 2),
        ok=lost == duplicated == reordered == 0
        and len(safety_numbers) == 1
        and not plaintext_on_server
        and verified
        and detected
        and denied
        and audit.officer.rows > 0
        and kills > 0
        and len(course.queued) == len(course.queued_turns) > 0,
    )
