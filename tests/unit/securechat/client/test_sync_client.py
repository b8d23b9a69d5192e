"""The client without asyncio: the same promises, from ordinary threads."""

import threading

import pytest
from support.clients import open_client
from support.fake_server import FakeServer
from support.server_parts import HandClock

from securechat.client import Message, SyncClient
from securechat.errors import ClientClosedError, ServerError


def first_text(client: SyncClient) -> str:
    for told in client.events():
        told.ack()
        if isinstance(told.event, Message):
            return told.event.text
    raise AssertionError("the events ended")


def test_two_threads_hold_a_conversation() -> None:
    server = FakeServer(HandClock())
    ready = threading.Event()
    answers: list[str] = []

    def clinician() -> None:
        with SyncClient.over(open_client(server, "lee")) as lee:
            ready.set()
            answers.append(first_text(lee))
            lee.send("ana", "answer").accepted()

    thread = threading.Thread(target=clinician)
    thread.start()
    assert ready.wait(10)
    with SyncClient.over(open_client(server, "ana")) as ana:
        conversation = ana.direct("lee")
        conversation.send("question", idempotency_key="k").accepted()
        assert first_text(ana) == "answer"
        assert len(conversation.safety_number().split()) == 12
        assert {reader.user for reader in conversation.readers()} == {"ana", "lee"}
        assert (ana.user, repr(ana)) == ("ana", "<SyncClient connected>")
        ana.disconnect()
        ana.connect()
    thread.join(10)
    assert answers == ["question"]


def test_errors_come_through_and_nothing_is_left_behind() -> None:
    server = FakeServer(HandClock())
    before = threading.active_count()
    with SyncClient.over(open_client(server, "ana")) as ana, pytest.raises(ServerError):
        ana.send("nobody", "text")
    assert threading.active_count() == before
    with pytest.raises(ClientClosedError):
        ana.connect()
    server.online = False
    with pytest.raises(Exception, match="reached"), SyncClient.over(open_client(server, "kim")):
        pass
    assert threading.active_count() == before
