"""The token provider: called on expiry and refusal only, once at a time; a token never prints."""

import asyncio

import pytest
from support.server_parts import App, HandClock

from securechat.client.tokens import TokenSource
from securechat.errors import AuthenticationError


class Provider:
    """Mints tokens of two seconds and counts the calls."""

    def __init__(self, clock: HandClock) -> None:
        self._app = App(clock)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        await asyncio.sleep(0)
        return self._app.token("ana", "patient", ttl_s=2)


async def test_a_token_is_asked_for_on_expiry_only() -> None:
    clock = HandClock()
    provider = Provider(clock)
    source = TokenSource(provider)
    for calls in (1, 2, 3):
        for _ in range(5):
            await source.get(clock())
        assert provider.calls == calls
        clock.advance(2)


async def test_many_callers_share_one_call() -> None:
    clock = HandClock()
    provider = Provider(clock)
    source = TokenSource(provider)
    tokens = await asyncio.gather(*(source.get(clock()) for _ in range(50)))
    assert (len(set(tokens)), provider.calls) == (1, 1)


async def test_a_refused_token_is_replaced_but_not_a_newer_one() -> None:
    clock = HandClock()
    provider = Provider(clock)
    source = TokenSource(provider)
    first = await source.get(clock())
    source.refuse(first)
    await source.get(clock())
    assert provider.calls == 2
    source.refuse(first)
    await source.get(clock())
    assert provider.calls == 2


async def test_a_provider_may_be_a_text_a_function_or_a_coroutine_function() -> None:
    token = await Provider(HandClock())()

    async def later() -> str:
        return token

    for provider in (token, lambda: token, later):
        assert await TokenSource(provider).get(0) == token
        assert await TokenSource(provider).subject(0) == "ana"


async def test_a_provider_that_fails_is_asked_again() -> None:
    calls = 0

    def failing() -> str:
        nonlocal calls
        calls += 1
        raise ConnectionError("the backend is down")

    source = TokenSource(failing)
    for expected in (1, 2):
        with pytest.raises(ConnectionError):
            await source.get(0)
        assert calls == expected


@pytest.mark.parametrize("token", ["", "x" * 4_097, "not ascii é"])
async def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await TokenSource(lambda: token).get(0)
    assert "ascii" not in str(caught.value)


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "a.e30.c", "a.W10.c", "a.eyJzdWIiOjF9.c"])
async def test_a_token_without_a_user_names_nobody(token: str) -> None:
    source = TokenSource(token)
    assert await source.get(0) == token
    with pytest.raises(AuthenticationError):
        await source.subject(0)


async def test_a_source_does_not_print_its_token() -> None:
    source = TokenSource("canary-token")
    await source.get(0)
    assert "canary" not in repr(source)
