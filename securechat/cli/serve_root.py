"""Runs one server process: settings, lock, log, signals, listening, and the local clinic of ``--dev``."""

import asyncio
import contextlib
import os
import signal
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TextIO

from aiohttp import web

from audit.errors import AuditError
from securechat.cli.clinic import AUDIENCE, DEFAULT_FOLDER, Clinic, seed_clinic
from securechat.cli.composition import Server, open_server
from securechat.cli.data_folder import DataFolder, open_data_folder
from securechat.cli.exit_codes import ExitCode
from securechat.cli.faults import fault_from_environment
from securechat.cli.policy_files import DEFAULT_FOLDER as POLICIES
from securechat.errors import SettingsError
from securechat.logs import configure_logging, get_logger
from securechat.settings import ServerSettings, TlsFiles, read_settings
from securechat.web.serving import make_runner

DEV_ORIGIN: Final = "securechat.local/audit"
READY: Final = "ready"  # the one line that --quiet leaves: "ready URL"
DEV_PORT: Final = "8440"
DEV_OPTIONS: Final = frozenset(  # what --dev leaves to be chosen
    {"port", "policies", "log_format", "mailbox_days", "mailbox_messages", "mailbox_bytes"}
)


def serve(
    options: Mapping[str, str | None], *, clinic_folder: Path | None, quiet: bool, restored: bool
) -> int:
    """Serve until SIGTERM or Ctrl-C; with ``clinic_folder`` a local clinic, seeded if need be.

    Raises SettingsError, PolicyError, StoreError.
    """
    os.umask(0o077)  # database and log tell who writes to whom: nobody else on the machine reads them
    if clinic_folder is not None:
        _check_dev_options(options)
    clinic = seed_clinic(clinic_folder) if clinic_folder else None
    settings = _dev_settings(clinic, options) if clinic else _settings(options)
    with contextlib.ExitStack() as stack:
        log = sys.stderr if clinic is None else stack.enter_context(_log_file(clinic))
        configure_logging(log, log_format="console" if settings.log_format == "console" else "json")
        data = stack.enter_context(open_data_folder(settings.data))
        try:
            _run_loop(_Root(settings, data, clinic, quiet=quiet, restored=restored))
        except AuditError as error:
            text = f"the audit log does not hold, so the server does not start: {error}"
            raise SettingsError(text) from error
    return ExitCode.OK


def _settings(options: Mapping[str, str | None]) -> ServerSettings:
    """The settings of a real server; without a policy folder the shipped one."""
    shipped = None if "SECURECHAT_POLICIES" in os.environ else str(POLICIES)
    return read_settings(os.environ, {**options, "policies": options["policies"] or shipped})


class _Root:
    """One run of the server."""

    def __init__(
        self,
        settings: ServerSettings,
        data: DataFolder,
        clinic: Clinic | None,
        *,
        quiet: bool,
        restored: bool,
    ) -> None:
        self._settings = settings
        self._data = data
        self._clinic = clinic
        self._quiet = quiet
        self._restored = restored
        self._stop = asyncio.Event()

    async def serve(self) -> None:
        """Open everything, listen, and close in good order when told to stop."""
        self._stop_on_signals()
        fault = fault_from_environment()
        async with open_server(self._settings, self._data, fault, restored=self._restored) as server:
            runner = make_runner(server.app)
            await runner.setup()
            try:
                url = await self._listen(runner)
                await self._announce(server, url)
                await self._stop.wait()
            finally:
                await runner.cleanup()

    def _stop_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt instead
                loop.add_signal_handler(number, self._stop.set)

    async def _listen(self, runner: web.AppRunner) -> str:
        settings = self._settings
        context = _tls_context(settings.tls) if settings.tls else None
        site = web.TCPSite(runner, settings.host, settings.port, ssl_context=context)
        try:
            await site.start()
        except OSError as error:
            raise SettingsError(f"cannot listen on port {settings.port}: {error.strerror}") from error
        port = runner.addresses[0][1]
        scheme = "https" if context else "http"
        get_logger("serve").info("listening", host=settings.host, port=port)
        return f"{scheme}://{settings.host}:{port}"

    async def _announce(self, server: Server, url: str) -> None:
        if self._clinic is not None:
            self._clinic.set_url(url)
            await _seed_devices(self._clinic)
        if self._clinic is None or self._quiet:
            _say(f"{READY} {url}")
        else:
            _say(_welcome(self._clinic, self._data, server, url))


def _run_loop(root: _Root) -> None:
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(root.serve())
    else:
        uvloop.run(root.serve())


def _log_file(clinic: Clinic) -> TextIO:
    """The terminal of a local clinic stays free for the people who read it."""
    return (clinic.folder / "server.log").open("a", buffering=1)


def _check_dev_options(options: Mapping[str, str | None]) -> None:
    """Refuse what a local clinic would leave unheeded."""
    unused = [name for name, value in options.items() if value is not None and name not in DEV_OPTIONS]
    if unused:
        names = ", ".join("--" + name.replace("_", "-") for name in unused)
        raise SettingsError(f"a local clinic (--dev) does not take {names}")


def _dev_settings(clinic: Clinic, options: Mapping[str, str | None]) -> ServerSettings:
    """The clinic's settings; host and transport stay on this machine. Raises SettingsError."""
    fixed = {
        "data": str(clinic.server_folder),
        "audience": AUDIENCE,
        "app_keys": str(clinic.server_folder / "app-keys"),
        "origin": DEV_ORIGIN,
        "host": "127.0.0.1",
        "port": DEV_PORT,
        "policies": str(POLICIES),
        "operator_org": str(clinic.org),
    }
    given = {name: value for name, value in options.items() if value is not None}
    return read_settings({}, {**fixed, **given})


async def _seed_devices(clinic: Clinic) -> None:
    """Let a process of its own enrol whoever has no device; this one never sees a device's keys."""
    if all(clinic.has_device(person) for person in clinic.people):
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "securechat.cli.seed", "--dir", str(clinic.folder)
    )
    if await process.wait():
        raise SettingsError("the clinic's devices could not be enrolled")


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.3 alone, with the certificate of the settings. Raises SettingsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError("the TLS certificate or its key cannot be used") from error
    return context


def _welcome(clinic: Clinic, data: DataFolder, server: Server, url: str) -> str:
    where = "" if clinic.folder == DEFAULT_FOLDER else f" --dir {clinic.folder}"
    people = "\n".join(
        f"  {person.handle:14} {person.name:18} {', '.join(person.roles)}" for person in clinic.people
    )
    return f"""\
A local clinic at {url}; Ctrl-C ends it.
Everything is in {clinic.folder}, the server's log in server.log there.

{people}

Talk, in two more terminals:
  ./dev run -m securechat chat --as pat{where}
  ./dev run -m securechat chat --as dr-lee{where}
Or with pipes:
  echo "hello" | ./dev run -m securechat send --as pat --to dr-lee{where}
  ./dev run -m securechat tail --as dr-lee --until-empty{where}
  ./dev run -m securechat safety-number --as pat --with dr-lee{where}
Look at the audit log:
  ./dev run -m audit verify {data.folder / "server.db"} --vkey-file {data.vkey_file}
  ./dev run -m audit query {data.folder / "server.db"} --limit 20

policy set {server.policy_set[:16]}...
audit key  {server.audit_key}"""


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
