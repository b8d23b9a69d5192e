"""One client of the demo as a process: commands in by standard input, reports out by standard output."""

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from securechat.cli.audit_api import AuditRow, ask_audit
from securechat.cli.clinic import Clinic, Person, load_clinic
from securechat.cli.demo.protocol import (
    Accepted,
    AskAudit,
    AuditAnswer,
    AuditLine,
    Command,
    Failed,
    GoOffline,
    GoOnline,
    Offline,
    Online,
    Quit,
    Received,
    Report,
    SafetyNumber,
    Send,
    ShowSafetyNumber,
    Stored,
    encode,
    parse_command,
)
from securechat.cli.demo.script import Turn, read_script
from securechat.cli.error_groups import first_error
from securechat.cli.lines import standard_input_lines
from securechat.cli.people import open_client
from securechat.client import Client, Message, Sent
from securechat.errors import SecureChatError, ServerError

SHOWN_ROWS: Final = 6


class DemoClient:
    """Holds one open client at most; every command is answered by a report."""

    def __init__(self, clinic: Clinic, person: Person, turns: tuple[Turn, ...]) -> None:
        self._clinic = clinic
        self._person = person
        self._turns = {turn.turn: turn for turn in turns}

    async def run(self) -> None:
        """Stay online until told otherwise."""
        lines = standard_input_lines()
        while await self._session(lines):
            line = await lines.get()
            if line is None or not isinstance(parse_command(line), GoOnline):
                return

    async def _session(self, lines: "asyncio.Queue[bytes | None]") -> bool:
        """Serve commands with an open client; return True if it was told to go offline."""
        async with open_client(self._clinic, self._person) as me, asyncio.TaskGroup() as tasks:
            report(Online(user=str(me.user)))
            listener = tasks.create_task(self._listen(me))
            while (line := await lines.get()) is not None:
                command = parse_command(line)
                if isinstance(command, GoOffline | Quit):
                    break
                await self._obey(me, command, tasks)
            listener.cancel()
        report(Offline())
        return line is not None and isinstance(parse_command(line), GoOffline)

    async def _listen(self, me: Client) -> None:
        async for event in me.events():
            if isinstance(event, Message):
                report(Received(message_id=event.message_id.hex(), text=event.text))
            await event.ack()

    async def _obey(self, me: Client, command: Command, tasks: asyncio.TaskGroup) -> None:
        match command:
            case Send(to=to, turns=numbers):
                for number in numbers:
                    sent = await me.send(self._clinic.person(to).user, self._turns[number].text)
                    report(Stored(turn=number, message_id=sent.message_id.hex()))
                    tasks.create_task(self._confirm(sent, number))
            case ShowSafetyNumber(peer=peer):
                conversation = await me.direct(self._clinic.person(peer).user)
                report(SafetyNumber(digits=conversation.safety_number()))
            case AskAudit():
                report(await self._ask_audit(me))

    async def _confirm(self, sent: Sent, number: int) -> None:
        await sent.accepted()
        report(Accepted(turn=number, message_id=sent.message_id.hex()))

    async def _ask_audit(self, me: Client) -> AuditAnswer:
        try:
            rows = await ask_audit(me, limit=200)
        except ServerError as error:
            return AuditAnswer(allowed=False, rows=0, rule=error.rule)
        newest = [_line_of(row) for row in rows[:SHOWN_ROWS]]
        return AuditAnswer(allowed=True, rows=len(rows), rule="", newest=newest)


def _line_of(row: AuditRow) -> AuditLine:
    return AuditLine(
        seq=row.seq,
        time=datetime.fromtimestamp(row.t / 1_000_000, UTC).strftime("%H:%M:%S"),
        actor=row.actor.id,
        action=row.type,
        object=row.object.id,
        outcome=row.outcome,
        rules=", ".join(row.policy.ids),
    )


def report(message: Report) -> None:
    """Print one line."""
    sys.stdout.buffer.write(encode(message))
    sys.stdout.buffer.flush()


def main() -> int:
    """Run until told to quit or the demo ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--as", dest="handle", required=True)
    parser.add_argument("--script", type=Path, required=True)
    args = parser.parse_args()
    try:
        clinic = load_clinic(args.dir)
        asyncio.run(DemoClient(clinic, clinic.person(args.handle), read_script(args.script)).run())
    except SecureChatError as error:
        return _fail(error)
    except BaseExceptionGroup as group:
        errors = group.subgroup(SecureChatError)
        if errors is None:
            raise
        return _fail(first_error(errors))
    return 0


def _fail(error: SecureChatError) -> int:
    report(Failed(code=error.code, text=str(error)))
    return 1


if __name__ == "__main__":
    sys.exit(main())
