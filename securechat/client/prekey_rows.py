"""The prekey pool in the store: read in the part that is needed, written by what changed."""

from securechat.client.ports import Transaction
from securechat.crypto.secret import SecretBytes
from securechat.protocol.prekey_rows import assemble_pool, difference, encode_secret, parse_secret
from securechat.protocol.prekeys import PreKeyPool, PreKeySecret, handshake_of
from securechat.wire.handshake import PqxdhHeader
from securechat.wire.prekeys import PreKeyKind


def load_whole_pool(tx: Transaction) -> PreKeyPool | None:
    """Return the pool with all its one-time keys, or None before the first one was made."""
    next_id = tx.prekeys.next_id()
    if next_id is None:
        return None
    bodies = (*tx.prekeys.lasting(), *tx.prekeys.one_time())
    return assemble_pool(next_id, map(parse_secret, bodies), tx.prekeys.used())


def load_pool_for(tx: Transaction, header: PqxdhHeader) -> PreKeyPool | None:
    """Return the pool with the lasting keys and those rows that ``header`` names, None before the first pool.

    So its cost does not grow with the handshakes that others have made with this device.
    """
    next_id = tx.prekeys.next_id()
    if next_id is None:
        return None
    secrets = [parse_secret(body) for body in tx.prekeys.lasting()]
    secrets += _named(tx, PreKeyKind.ONE_TIME, header.one_time_id)
    if header.kem_kind is PreKeyKind.KEM_ONE_TIME:
        secrets += _named(tx, PreKeyKind.KEM_ONE_TIME, header.kem_id)
    handshake = handshake_of(header)
    return assemble_pool(next_id, secrets, (handshake,) if tx.prekeys.is_used(handshake) else ())


def pool_without_keys() -> PreKeyPool:
    """Return a pool that holds nothing, for opening a message that names no prekey."""
    nothing = PreKeySecret(PreKeyKind.SIGNED, 0, 0, 0, 0, SecretBytes(b""))
    return PreKeyPool(1, nothing, nothing, (), {}, {}, frozenset())


def save_first_pool(tx: Transaction, pool: PreKeyPool) -> None:
    """Write every row of a new pool."""
    tx.prekeys.set_next_id(pool.next_id)
    for secret in pool.secrets():
        tx.prekeys.save_secret(secret.kind, secret.id, encode_secret(secret))


def save_pool_change(tx: Transaction, old: PreKeyPool, new: PreKeyPool) -> None:
    """Write the rows that differ; keys that ``old`` did not load stay as they are."""
    change = difference(old, new)
    if change.next_id != old.next_id:
        tx.prekeys.set_next_id(change.next_id)
    for secret in change.stored:
        tx.prekeys.save_secret(secret.kind, secret.id, encode_secret(secret))
    for kind, key_id in change.deleted:
        tx.prekeys.remove_secret(kind, key_id)
    for used in change.used_stored:
        tx.prekeys.save_used(used)
    for used in change.used_deleted:
        tx.prekeys.remove_used(used)


def _named(tx: Transaction, kind: PreKeyKind, key_id: int | None) -> list[PreKeySecret]:
    body = None if key_id is None else tx.prekeys.secret(kind, key_id)
    return [] if body is None else [parse_secret(body)]
