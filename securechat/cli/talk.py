"""``chat``, ``send``, ``tail``, ``whoami``, ``safety-number``: a whole client in a terminal or a pipe."""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from securechat.cli.clinic import DEFAULT_FOLDER, Clinic, Person, load_clinic
from securechat.cli.exit_codes import ExitCode
from securechat.cli.lines import standard_input_lines
from securechat.cli.people import open_client
from securechat.client import (
    CaughtUp,
    Client,
    ClockSkew,
    DecryptFailed,
    Event,
    IdentityChanged,
    Message,
    SendFailed,
    Sent,
    StoreRestored,
)
from securechat.errors import SecureChatError, SendFailedError, SettingsError, StoreError, TransportError

Task = Callable[[Clinic, Person, argparse.Namespace], Awaitable[int]]

_PATIENCE_S: Final = 5.0  # for messages on their way when a chat ends
SEND_PATIENCE_S: Final = 60.0
_JOINERS: Final = "\u200c\u200d\u200e\u200f"  # emoji and right-to-left text need them; they steer nothing
_CHAT_HELP = "commands: /to HANDLE  /people  /safety  /accept NUMBER  /quit"


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the five commands."""
    chat = _add(commands, "chat", "hold an interactive conversation", _chat)
    chat.add_argument("--to", metavar="HANDLE", help="whom to write to; changed by /to")
    send = _add(commands, "send", "send one message: TEXT, or standard input", _send)
    send.add_argument("--to", metavar="HANDLE", help="whom to write to")
    send.add_argument("--lines", action="store_true", help="each line of standard input is a message")
    send.add_argument("--key", metavar="KEY", help="idempotency key: the same key is never sent twice")
    send.add_argument(
        "--wait", type=_positive, default=SEND_PATIENCE_S, metavar="SECONDS", help="at most (default 60)"
    )
    send.add_argument("text", nargs="?", help="the text; standard input if absent")
    tail = _add(commands, "tail", "print messages as they arrive, and acknowledge them", _tail)
    tail.add_argument("--json", action="store_true", help="one JSON object a line")
    tail.add_argument("--until-empty", action="store_true", help="end when the mailbox is empty")
    tail.add_argument("--count", type=_count, metavar="N", help="end after N messages")
    whoami = _add(commands, "whoami", "print user id, device and account key", _whoami)
    whoami.add_argument("--json", action="store_true", help="as one JSON object")
    safety = _add(commands, "safety-number", "print the safety number shared with somebody", _safety_number)
    safety.add_argument("--with", dest="peer", metavar="HANDLE", help="the other side")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str, task: Task
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.add_argument("--as", dest="handle", required=True, metavar="HANDLE", help="who you are, e.g. pat")
    parser.add_argument(
        "--dir", type=Path, default=DEFAULT_FOLDER, help=f"folder of the local clinic ({DEFAULT_FOLDER})"
    )

    def run(args: argparse.Namespace) -> int:
        clinic = load_clinic(args.dir)
        return asyncio.run(_awaited(task(clinic, clinic.person(args.handle), args)))

    parser.set_defaults(run=run)
    return parser


async def _awaited(work: Awaitable[int]) -> int:
    return await work


def _peer(clinic: Clinic, person: Person, handle: str | None) -> Person:
    """Return who is written to. Raises SettingsError for a stranger and for oneself."""
    peer = clinic.person(person.writes_to if handle is None else handle)
    if peer == person:
        raise SettingsError(f"{person.handle} is yourself: name somebody else")
    return peer


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


async def _chat(clinic: Clinic, person: Person, args: argparse.Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True)
    lines = standard_input_lines()
    peer = _peer(clinic, person, args.to)
    async with open_client(clinic, person) as me, asyncio.TaskGroup() as tasks:
        console.print(f"You are {person.name}. Writing to {peer.name}; {_CHAT_HELP}", style="dim")
        listener = tasks.create_task(_show_events(me, clinic, console))
        pending: set[asyncio.Task[None]] = set()
        while (line := await lines.get()) is not None:
            text = line.decode(errors="replace")
            if text.strip() == "/quit":
                break
            try:
                if text.startswith("/"):
                    peer = await _chat_command(me, clinic, person, peer, text, console)
                elif text:
                    pending.add(tasks.create_task(_accepted(await me.send(peer.user, text))))
            except StoreError:
                raise
            except SecureChatError as error:
                console.print(f"{error} [{error.code}]", style="red", markup=False)
        await _wait_for(pending, console)
        listener.cancel()
    return ExitCode.OK


async def _accepted(sent: Sent) -> None:
    with contextlib.suppress(SendFailedError):  # the listener tells of it
        await sent.accepted()


async def _wait_for(pending: set[asyncio.Task[None]], console: Console) -> None:
    """Give what was just written time to leave; the rest stays in the outbox."""
    if not pending:
        return
    _, waiting = await asyncio.wait(pending, timeout=_PATIENCE_S)
    for task in waiting:
        task.cancel()
    if waiting:
        console.print(f"{len(waiting)} messages were not sent yet; they go out next time", style="yellow")


async def _chat_command(
    me: Client, clinic: Clinic, person: Person, peer: Person, text: str, console: Console
) -> Person:
    command, _, argument = text.strip().partition(" ")
    if command == "/to" and argument:
        try:
            peer = _peer(clinic, person, argument.strip())
        except SettingsError as error:
            console.print(str(error), style="red", markup=False)
            return peer
        console.print(f"Writing to {peer.name}", style="dim")
    elif command == "/people":
        for each in clinic.people:
            console.print(f"{each.handle:14} {each.name} ({', '.join(each.roles)})", style="dim")
    elif command == "/safety":
        conversation = await me.direct(peer.user)
        console.print(conversation.safety_number(), style="bold")
    elif command == "/accept" and argument:
        await me.accept_identity(peer.user, _grouped(argument))
        console.print(f"The new identity of {peer.name} is accepted", style="dim")
    else:
        console.print(_CHAT_HELP, style="dim")
    return peer


def _grouped(number: str) -> str:
    """Return typed digits in groups of five, as safety numbers are printed."""
    digits = "".join(number.split())
    return " ".join(digits[at : at + 5] for at in range(0, len(digits), 5))


async def _show_events(me: Client, clinic: Clinic, console: Console) -> None:
    async for event in me.events():
        line = _line_of(event, clinic)
        if line is not None:
            console.print(line)
        await event.ack()


def _line_of(event: Event, clinic: Clinic) -> Text | None:
    match event:
        case Message():
            clock = datetime.fromtimestamp(event.sent_ms / 1000, UTC).astimezone().strftime("%H:%M")
            who = clinic.handle_of(event.sender)
            return Text.assemble((f"{clock} ", "dim"), (who, "bold"), f": {printable(event.text)}")
        case DecryptFailed():
            return Text(
                f"a message could not be opened ({event.reason}); waiting for a new session", "yellow"
            )
        case SendFailed():
            return Text(f"a message was not sent ({event.reason})", "red")
        case IdentityChanged():
            who = clinic.handle_of(event.user)
            advice = f"/to {who}, /safety, compare the number by voice, then /accept NUMBER"
            return Text(f"the identity of {who} changed and nothing is sent to them: {advice}", "red")
        case StoreRestored():
            return Text("this store was an older copy: sessions are made anew, messages may lack", "red")
        case ClockSkew():
            return Text(f"this device's clock is off by {abs(event.skew_ms) // 60_000} minutes", "yellow")
        case _:
            return None


async def _send(clinic: Clinic, person: Person, args: argparse.Namespace) -> int:
    peer = _peer(clinic, person, args.to)
    texts = _texts(args)
    async with open_client(clinic, person) as me:
        sent = [
            await me.send(peer.user, text, idempotency_key=_numbered(args.key, index))
            for index, text in enumerate(texts)
        ]
        try:
            async with asyncio.timeout(args.wait):
                for one in sent:
                    await one.accepted()
                    sys.stdout.write(one.message_id.hex() + "\n")
        except TimeoutError:
            raise TransportError(
                "not accepted in time; it waits in the outbox and goes out next time"
            ) from None
    return ExitCode.OK


def _texts(args: argparse.Namespace) -> list[str]:
    if args.text is not None:
        return [args.text]
    try:
        whole = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise SettingsError("standard input is not UTF-8, so nothing was sent") from None
    if args.lines:
        return [line for line in whole.split("\n") if line]
    if not whole:
        raise SettingsError("there is nothing to send: give TEXT or pipe something in")
    return [whole]


def printable(text: str) -> str:
    """Replace what could steer a terminal: a peer may send anything."""
    return "".join(
        each if each in "\n\t" or each.isprintable() or each in _JOINERS else "\ufffd" for each in text
    )


def _numbered(key: str | None, index: int) -> str | None:
    if key is None or index == 0:
        return key
    return f"{key}/{index}"


async def _tail(clinic: Clinic, person: Person, args: argparse.Namespace) -> int:
    count = 0
    async with open_client(clinic, person) as me:
        if args.until_empty and not me.is_connected:
            raise TransportError("the server cannot be reached")
        async for event in me.events():
            if isinstance(event, Message):
                _print_message(event, clinic, as_json=args.json)
                count += 1
            elif isinstance(event, DecryptFailed | SendFailed):
                sys.stderr.write(f"securechat: {event.reason}\n")
            await event.ack()
            if isinstance(event, CaughtUp) and args.until_empty:
                break
            if args.count is not None and count >= args.count:
                break
    return ExitCode.OK


def _print_message(event: Message, clinic: Clinic, *, as_json: bool) -> None:
    if as_json:
        row = {
            "id": event.message_id.hex(),
            "from": clinic.handle_of(event.sender),
            "sent_ms": event.sent_ms,
            "text": event.text,
        }
        sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
    else:
        text = printable(event.text) if sys.stdout.isatty() else event.text
        sys.stdout.write(f"{clinic.handle_of(event.sender)}: {text}\n")
    sys.stdout.flush()


async def _whoami(clinic: Clinic, person: Person, args: argparse.Namespace) -> int:
    async with open_client(clinic, person) as me:
        facts = {
            "handle": person.handle,
            "name": person.name,
            "user": str(me.user),
            "device": str(int(me.device)),
            "account_key": me.account_key.hex(),
            "server": clinic.url(),
        }
    if args.json:
        sys.stdout.write(msgspec.json.encode(facts).decode() + "\n")
    else:
        sys.stdout.writelines(f"{key + ':':13}{value}\n" for key, value in facts.items())
    return ExitCode.OK


async def _safety_number(clinic: Clinic, person: Person, args: argparse.Namespace) -> int:
    peer = _peer(clinic, person, args.peer)
    async with open_client(clinic, person) as me:
        conversation = await me.direct(peer.user)
        sys.stdout.write(conversation.safety_number() + "\n")
    return ExitCode.OK
