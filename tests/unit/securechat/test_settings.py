"""Settings: all problems at once, no default for what protects."""

import re
from pathlib import Path

import pytest

from securechat.errors import SettingsError
from securechat.settings import SETTINGS, TlsFiles, read_settings

GOOD = {"SECURECHAT_AUDIENCE": "chat.example", "SECURECHAT_APP_KEYS": "apps.keys"}


def problems(environment: dict[str, str], options: dict[str, str | None] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        read_settings(environment, options)
    return str(caught.value)


def test_the_defaults_listen_on_this_machine_alone() -> None:
    settings = read_settings(GOOD)
    assert (settings.host, settings.port, settings.tls) == ("127.0.0.1", 8443, None)
    assert settings.audience == "chat.example"
    assert settings.app_keys == Path("apps.keys")
    assert settings.mailbox_days == 30
    assert settings.log_format == "json"


def test_audience_and_apps_have_no_default() -> None:
    text = problems({})
    assert "SECURECHAT_AUDIENCE is missing" in text
    assert "SECURECHAT_APP_KEYS is missing" in text


def test_every_problem_is_reported_at_once() -> None:
    text = problems(
        {
            "SECURECHAT_PORT": "65536",
            "SECURECHAT_HOST": "clinic",
            "SECURECHAT_MAILBOX_DAYS": "0",
            "SECURECHAT_LOG_FORMAT": "xml",
            "SECURECHAT_AUDEINCE": "typo",
        }
    )
    for name in ("PORT", "HOST", "MAILBOX_DAYS", "LOG_FORMAT", "AUDIENCE", "APP_KEYS", "AUDEINCE"):
        assert f"SECURECHAT_{name}" in text
    assert "is SECURECHAT_AUDIENCE meant?" in text


def test_a_value_is_never_repeated() -> None:
    assert "canary" not in problems({**GOOD, "SECURECHAT_PORT": "canary", "SECURECHAT_ORIGIN": "canary\n"})


@pytest.mark.parametrize("port", ["", " 80", "+80", "080", "8_0", "8.0", "-1", "٨٠", "1" * 20])
def test_a_number_is_plain_digits_within_its_range(port: str) -> None:
    assert "SECURECHAT_PORT must be a number from 0 to 65535" in problems({**GOOD, "SECURECHAT_PORT": port})


def test_an_option_wins_over_its_variable() -> None:
    settings = read_settings({**GOOD, "SECURECHAT_PORT": "1"}, {"port": "2", "host": None})
    assert settings.port == 2


@pytest.mark.parametrize("host", ["198.51.100.7", "2001:db8::1", "192.0.2.7"])
def test_beyond_this_machine_encryption_is_asked_for(host: str) -> None:
    assert "SECURECHAT_TLS_CERTIFICATE" in problems({**GOOD, "SECURECHAT_HOST": host})
    assert read_settings({**GOOD, "SECURECHAT_HOST": host, "SECURECHAT_BEHIND_PROXY": "yes"}).host == host
    tls = {"SECURECHAT_TLS_CERTIFICATE": "a.pem", "SECURECHAT_TLS_KEY": "b.pem"}
    settings = read_settings({**GOOD, **tls, "SECURECHAT_HOST": host})
    assert settings.tls == TlsFiles(Path("a.pem"), Path("b.pem"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_s_own_addresses_need_none(host: str) -> None:
    assert read_settings({**GOOD, "SECURECHAT_HOST": host}).host == host


def test_a_certificate_needs_its_key() -> None:
    assert "go together" in problems({**GOOD, "SECURECHAT_TLS_KEY": "b.pem"})


def test_behind_proxy_is_yes_or_no() -> None:
    assert "BEHIND_PROXY" in problems({**GOOD, "SECURECHAT_BEHIND_PROXY": "true"})


def test_foreign_variables_are_left_alone() -> None:
    read_settings({**GOOD, "PATH": "/bin", "SECURECHAT_FAULT": "accept.begun"})


def test_every_setting_is_described() -> None:
    assert all(re.fullmatch(r"[a-z_]+", name) and text for name, text in SETTINGS.items())
