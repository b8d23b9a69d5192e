"""The tables of a client store, as numbered steps; ``user_version`` holds the number of the last one done.

A step that was released is never edited: a new step is added behind it.
"""

from typing import Final

_V1: Final = """
CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    store_id BLOB NOT NULL CHECK (length(store_id) = 16),
    commits INTEGER NOT NULL,
    restored INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE account (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    user TEXT NOT NULL,
    device INTEGER NOT NULL,
    account_keys BLOB NOT NULL,
    local_device BLOB NOT NULL,
    device_list BLOB NOT NULL,
    enrolled INTEGER NOT NULL
);
CREATE TABLE cursor (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch BLOB NOT NULL,
    seq INTEGER NOT NULL
);
CREATE TABLE taken (
    user TEXT NOT NULL,
    device INTEGER NOT NULL,
    message_id BLOB NOT NULL,
    taken_ms INTEGER NOT NULL,
    PRIMARY KEY (user, device, message_id)
) WITHOUT ROWID;
CREATE INDEX taken_by_time ON taken (taken_ms);
CREATE TABLE prekey_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    next_id INTEGER NOT NULL,
    pending_upload BLOB
);
CREATE TABLE prekey (
    kind INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, key_id)
) WITHOUT ROWID;
CREATE TABLE used_handshake (
    signed_id INTEGER NOT NULL,
    base_key BLOB NOT NULL,
    PRIMARY KEY (signed_id, base_key)
) WITHOUT ROWID;
CREATE TABLE peer (
    user TEXT PRIMARY KEY,
    account BLOB NOT NULL,
    device_list BLOB NOT NULL,
    fetched_ms INTEGER NOT NULL,
    waiting_list BLOB
) WITHOUT ROWID;
CREATE TABLE peer_device (
    user TEXT NOT NULL,
    device INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    refreshed_ms INTEGER NOT NULL,
    refresh_due INTEGER NOT NULL,
    PRIMARY KEY (user, device)
) WITHOUT ROWID;
CREATE INDEX peer_device_refresh_due ON peer_device (user, device) WHERE refresh_due = 1;
CREATE TABLE held (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    user TEXT NOT NULL,
    device INTEGER NOT NULL,
    message_id BLOB NOT NULL,
    accepted_ms INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX held_by_user ON held (user, position);
CREATE TABLE session (
    user TEXT NOT NULL,
    device INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (user, device)
);
CREATE TABLE message (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id BLOB NOT NULL UNIQUE,
    user TEXT NOT NULL,
    kind INTEGER NOT NULL,
    digest BLOB NOT NULL,
    body BLOB NOT NULL,
    reply_to BLOB,
    idempotency_key TEXT UNIQUE,
    state INTEGER NOT NULL,
    code TEXT NOT NULL DEFAULT '',
    created_ms INTEGER NOT NULL
);
CREATE INDEX message_queued ON message (user, position) WHERE state = 1;
CREATE INDEX message_finished ON message (created_ms) WHERE state >= 3;
CREATE TABLE envelope (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id BLOB NOT NULL,
    user TEXT NOT NULL,
    device INTEGER NOT NULL,
    body BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    UNIQUE (message_id, user, device)
);
CREATE TABLE event (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    kind INTEGER NOT NULL,
    user TEXT NOT NULL,
    device INTEGER NOT NULL,
    message_id BLOB NOT NULL,
    reply_to BLOB NOT NULL,
    counter INTEGER NOT NULL,
    sent_ms INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    text TEXT NOT NULL,
    code TEXT NOT NULL
);
"""

_V2: Final = """
ALTER TABLE peer_device ADD COLUMN received INTEGER NOT NULL DEFAULT 0;
ALTER TABLE peer_device ADD COLUMN received_ms INTEGER NOT NULL DEFAULT 0;
"""

MIGRATIONS: Final = (_V1, _V2)
