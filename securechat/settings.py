"""The settings of a server process, read from environment variables and command-line options. Pure.

All problems are reported at once, each with the name of its variable or option. There is no default for what
protects: the audience, the registered apps, and transport encryption on any address but this machine's own.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal, TypeVar

from securechat.errors import InvalidIdError, SettingsError
from securechat.ids import OrgId, org_id

PREFIX: Final = "SECURECHAT_"
# Read elsewhere: the test bench's fault hook, the set-up script, the tests.
FOREIGN_NAMES: Final = frozenset(
    {
        "SECURECHAT_FAULT",
        "SECURECHAT_INTEROP_MESSAGES",
        "SECURECHAT_INTEROP_SEED",
        "SECURECHAT_VENV",
        "SECURECHAT_WYCHEPROOF",
    }
)
MAX_PORT: Final = 65_535

T = TypeVar("T")
LogFormat = Literal["json", "console"]

_is_audience = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/\-]{0,127}\Z").match
_is_origin = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/\-]{0,127}\Z").match
_is_number = re.compile(r"(0|[1-9][0-9]{0,15})\Z", re.ASCII).match


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of the server's certificate chain and its private key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Everything that a server process is told from outside.

    ``mailbox_days`` is how long an undelivered message is kept; a mailbox holds at most
    ``mailbox_messages`` and ``mailbox_bytes``. ``tls`` is None on loopback or behind a proxy.
    """

    data: Path
    audience: str
    app_keys: Path
    policies: Path
    origin: str
    host: str
    port: int
    tls: TlsFiles | None
    mailbox_days: int
    mailbox_messages: int
    mailbox_bytes: int
    log_format: LogFormat
    operator_org: OrgId | None = None


def read_settings(
    environment: Mapping[str, str], options: Mapping[str, str | None] | None = None
) -> ServerSettings:
    """Return the settings; an option, named without the prefix and in lower case, wins over its variable.

    Names are those of ``SETTINGS``. Raises SettingsError with every problem.
    """
    source = _Source(environment, options or {})
    settings = ServerSettings(
        data=source.take("data", Path, "securechat-data"),
        audience=source.take("audience", _audience, "none", required=True),
        app_keys=source.take("app_keys", Path, "none", required=True),
        policies=source.take("policies", Path, "policies"),
        origin=source.take("origin", _origin, "securechat/audit"),
        host=source.take("host", _host, "127.0.0.1"),
        port=source.take("port", _between(0, MAX_PORT), "8443"),
        tls=_tls(source),
        mailbox_days=source.take("mailbox_days", _between(1, 365), "30"),
        mailbox_messages=source.take("mailbox_messages", _between(1, 10_000_000), "50000"),
        mailbox_bytes=source.take("mailbox_bytes", _between(2**20, 2**36), str(256 * 2**20)),
        log_format=source.take("log_format", _log_format, "json"),
        operator_org=source.take("operator_org", _optional_org, ""),
    )
    _check_transport(source, settings)
    source.finish()
    return settings


SETTINGS: Final[Mapping[str, str]] = {
    "data": "folder of the database, the audit log's key and the lock",
    "audience": "audience that tokens must name; required",
    "app_keys": "file of the registered app keys, one line each; required",
    "policies": "folder of the policy tree",
    "origin": "name of this server's audit log, in every checkpoint",
    "host": "address to listen on",
    "port": "port to listen on; 0 takes a free one",
    "tls_certificate": "PEM file of the certificate chain",
    "tls_key": "PEM file of the certificate's private key",
    "behind_proxy": "'yes' when a proxy in front ends the encrypted connection",
    "mailbox_days": "days that an undelivered message is kept",
    "mailbox_messages": "messages that one device's mailbox holds",
    "mailbox_bytes": "bytes that one device's mailbox holds",
    "log_format": "'json' or 'console'",
    "operator_org": "organisation that runs the server: its officers see the whole audit log",
}


@dataclass(slots=True)
class _Source:
    """Takes values by name and collects what is wrong with them."""

    environment: Mapping[str, str]
    options: Mapping[str, str | None]
    problems: list[str] = field(default_factory=list)

    def text(self, name: str) -> str | None:
        """Return the value of ``name``, or None."""
        option = self.options.get(name)
        return self.environment.get(PREFIX + name.upper()) if option is None else option

    def take(self, name: str, parse: Callable[[str], T], fallback: str, *, required: bool = False) -> T:
        """Return the parsed value, or that of ``fallback`` where none is given.

        After a problem the fallback stands in, and ``finish`` sees to it that nobody uses it.
        """
        text = self.text(name)
        if text is None and required:
            self.problems.append(f"{PREFIX}{name.upper()} is missing ({_option(name)}: {SETTINGS[name]})")
        try:
            return parse(fallback if text is None else text)
        except ValueError as error:
            given = PREFIX + name.upper() if self.options.get(name) is None else _option(name)
            self.problems.append(f"{given} {error}")
            return parse(fallback)

    def finish(self) -> None:
        """Raise SettingsError if anything was wrong, or a variable has a name that nobody reads."""
        known = {PREFIX + name.upper() for name in SETTINGS} | FOREIGN_NAMES
        for name in sorted(self.environment):
            if name.startswith(PREFIX) and name not in known:
                near = get_close_matches(name, known, n=1)
                self.problems.append(f"{name} is unknown" + (f"; is {near[0]} meant?" if near else ""))
        if self.problems:
            raise SettingsError("the settings cannot be used: " + "; ".join(self.problems))


def _option(name: str) -> str:
    """Return the command-line option of the setting ``name``."""
    return "--" + name.replace("_", "-")


def _tls(source: _Source) -> TlsFiles | None:
    certificate, key = source.text("tls_certificate"), source.text("tls_key")
    if certificate and key:
        return TlsFiles(Path(certificate), Path(key))
    if certificate or key:
        source.problems.append(f"{PREFIX}TLS_CERTIFICATE and {PREFIX}TLS_KEY go together")
    return None


def _check_transport(source: _Source, settings: ServerSettings) -> None:
    """Refuse to listen beyond this machine without encryption."""
    proxied = source.text("behind_proxy") or "no"
    if proxied not in ("yes", "no"):
        source.problems.append(f"{PREFIX}BEHIND_PROXY must be 'yes' or 'no'")
    elif settings.tls is None and proxied == "no" and not _is_loopback(settings.host):
        source.problems.append(
            f"{PREFIX}HOST is not this machine's own: set {PREFIX}TLS_CERTIFICATE and {PREFIX}TLS_KEY,"
            f" or {PREFIX}BEHIND_PROXY=yes"
        )


def _is_loopback(host: str) -> bool:
    return host == "localhost" or ip_address(host).is_loopback


def _audience(text: str) -> str:
    if not _is_audience(text):
        raise ValueError("must be 1 to 128 letters, digits, '.', '_', ':', '/' or '-'")
    return text


def _origin(text: str) -> str:
    if not _is_origin(text):
        raise ValueError("must be 1 to 128 letters, digits, '.', '_', '/' or '-'")
    return text


def _host(text: str) -> str:
    try:
        return text if text == "localhost" else str(ip_address(text))
    except ValueError:
        raise ValueError("must be an IP address or 'localhost'") from None


def _log_format(text: str) -> LogFormat:
    match text:
        case "json" | "console":
            return text
        case _:
            raise ValueError("must be 'json' or 'console'")


def _between(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not _is_number(text) or not least <= int(text) <= most:
            raise ValueError(f"must be a number from {least} to {most}")
        return int(text)

    return parse


def _optional_org(text: str) -> OrgId | None:
    try:
        return org_id(text) if text else None
    except InvalidIdError as error:
        raise ValueError(f"is no organisation id: {error}") from error
