"""What the demo and its client processes say to each other: one JSON object a line."""

import msgspec


class Send(msgspec.Struct, frozen=True, tag="send"):
    """Send these turns, in this order, to ``to``."""

    to: str
    turns: list[int]


class GoOffline(msgspec.Struct, frozen=True, tag="offline"):
    """Close the client; its store stays."""


class GoOnline(msgspec.Struct, frozen=True, tag="online"):
    """Open the client again."""


class ShowSafetyNumber(msgspec.Struct, frozen=True, tag="safety"):
    """Compute the safety number with ``peer``."""

    peer: str


class AskAudit(msgspec.Struct, frozen=True, tag="audit"):
    """Ask the server for the audit log with this device's own session."""


class Quit(msgspec.Struct, frozen=True, tag="quit"):
    """Close and end."""


Command = Send | GoOffline | GoOnline | ShowSafetyNumber | AskAudit | Quit


class Online(msgspec.Struct, frozen=True, tag="online"):
    """The client is open; ``user`` is its opaque id."""

    user: str


class Offline(msgspec.Struct, frozen=True, tag="offline"):
    """The client is closed."""


class Stored(msgspec.Struct, frozen=True, tag="stored"):
    """A turn is sealed and in the outbox."""

    turn: int
    message_id: str


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """The relay has committed a turn."""

    turn: int
    message_id: str


class Received(msgspec.Struct, frozen=True, tag="received"):
    """A message was decrypted, shown and acknowledged."""

    message_id: str
    text: str


class SafetyNumber(msgspec.Struct, frozen=True, tag="safety"):
    """Sixty digits."""

    digits: str


class AuditLine(msgspec.Struct, frozen=True):
    """One row as an officer's table shows it."""

    seq: int
    time: str
    actor: str
    action: str
    object: str
    outcome: str
    rules: str


class AuditAnswer(msgspec.Struct, frozen=True, tag="audit"):
    """The server's answer to a question about the audit log: its rows, or the rule that refuses it."""

    allowed: bool
    rows: int
    rule: str
    newest: list[AuditLine] = []


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The client met an error that it could not heal: its code and text."""

    code: str
    text: str


Report = Online | Offline | Stored | Accepted | Received | SafetyNumber | AuditAnswer | Failed

_encoder = msgspec.json.Encoder()
_commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_reports: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


def encode(message: Command | Report) -> bytes:
    """Return one line."""
    return _encoder.encode(message) + b"\n"


def parse_command(line: bytes) -> Command:
    """Return the command on ``line``."""
    return _commands.decode(line)


def parse_report(line: bytes) -> Report:
    """Return the report on ``line``."""
    return _reports.decode(line)
