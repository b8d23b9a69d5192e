"""A session that one side started and the other cannot open, because the prekeys it names are gone."""

from dataclasses import replace

import pytest
from support.talking import Pair, strangers, turns

from securechat.errors import StalePreKeyError
from securechat.protocol.choice import STRAYS_TO_HIGHER
from securechat.protocol.records import encode_record
from securechat.protocol.session import adopt


def _starts_that_never_open(count: int) -> list[Pair]:
    """Pairs whose first has an unanswered session that the second cannot open, its prekeys being gone."""
    pairs = []
    for number in range(count):
        pair = strangers()
        pair.first.random(number + 1)
        pair.first.start(pair.second.bundle())
        pair.second.pool = replace(pair.second.pool, one_time={}, kem_one_time={})
        with pytest.raises(StalePreKeyError):
            pair.second.receive(pair.first.send(b"lost"))
        pair.second.start(pair.first.person.bundle(one_time=False, last_resort=True))
        pairs.append(pair)
    return pairs


def test_a_start_that_the_peer_cannot_open_gives_way_to_the_peers_whatever_its_id() -> None:
    for pair in _starts_that_never_open(12):
        for _ in range(STRAYS_TO_HIGHER + 1):
            pair.first.receive(pair.second.send(b"I cannot read you"))
        assert pair.second.receive(pair.first.send(b"now?")) == b"now?"


def test_it_gives_way_at_once_when_the_peer_says_that_it_made_the_session_anew() -> None:
    for pair in _starts_that_never_open(12):
        news = pair.second.send(b"made anew")
        pair.first.receive(news)
        pair.first.stored = encode_record(adopt(pair.first.record, news))
        turns(pair, [True, False, True])
