"""Every error of the packages ``securechat`` and ``keyserver``, as one tree.

SecureChatError
├── InvalidIdError             an identifier outside its alphabet or length
├── WireError                  bytes that our own encoder would not have written
├── CryptoError
│   ├── InvalidSignatureError
│   ├── DecryptionError        one error for every reason why a message does not open
│   └── WeakPublicKeyError     a key agreement that gave all zeros, or a key of the wrong form
├── SessionError
│   ├── NoSessionError
│   ├── DuplicateMessageError
│   ├── MessageGapError        more messages skipped than the caps allow
│   ├── ChainExhaustedError
│   ├── StalePreKeyError       a prekey that is expired, not yet valid or unknown
│   └── IdentityChangedError
├── DeviceListError            forged, forked or rolled-back list of devices
├── TransportError             the network or the server failed; the same call may be tried again
│   └── ServerError            the server answered with a problem: ``code``, ``retryable``
├── StoreError
│   ├── WrongKeyError          passphrase or key does not open the store, or the file is not a store
│   ├── StoreLockedError       another process has the store open
│   ├── StoreFullError         the disk is full; nothing was changed
│   └── StoreRollbackError     the store is an older copy of itself
├── ClientError
│   ├── MessageRefusedError    a text that cannot be sent: empty, too long, not Unicode
│   ├── IdempotencyConflictError  the same key was given for another message
│   ├── SendFailedError        a message that will not be sent: ``reason``
│   └── ClientClosedError
├── AccessDeniedError
├── AuthenticationError
│   ├── TokenInvalidError      malformed, tampered, of an unknown key or for another organisation
│   ├── TokenExpiredError
│   ├── TokenNotYetValidError
│   ├── TokenAudienceError
│   ├── ProofInvalidError      the challenge was not answered with the device's key
│   ├── DeviceUnknownError     the device is not in the account's list
│   └── SessionUnknownError    the session ended or never was
├── PolicyError
└── SettingsError

Each has a stable ``code``. Texts hold numbers and rules, never contents, keys, tokens or names.
"""

from typing import ClassVar


class SecureChatError(Exception):
    """Base of all errors of this project; ``code`` is stable and safe to show and to log."""

    code: ClassVar[str] = "securechat_error"


class InvalidIdError(SecureChatError):
    """An identifier outside its alphabet or length."""

    code = "invalid_id"


class WireError(SecureChatError):
    """Bytes that our own encoder would not have written."""

    code = "malformed"


class CryptoError(SecureChatError):
    """Base of cryptographic failures."""

    code = "crypto_error"


class InvalidSignatureError(CryptoError):
    """A signature does not verify."""

    code = "invalid_signature"


class DecryptionError(CryptoError):
    """A message does not open; deliberately without the reason."""

    code = "cannot_decrypt"


class WeakPublicKeyError(CryptoError):
    """A public key of the wrong form, or one whose agreement is all zeros."""

    code = "weak_public_key"


class SessionError(SecureChatError):
    """Base of errors of a session's state."""

    code = "session_error"


class NoSessionError(SessionError):
    """There is no session that could open or seal this message."""

    code = "no_session"


class DuplicateMessageError(SessionError):
    """The message was opened before."""

    code = "duplicate"


class MessageGapError(SessionError):
    """A counter jumps further than the caps allow."""

    code = "epoch_gap"


class ChainExhaustedError(SessionError):
    """A chain index would pass the four bytes that the wire holds."""

    code = "chain_exhausted"


class StalePreKeyError(SessionError):
    """A prekey is expired, not yet valid, or no longer held."""

    code = "stale_prekey"


class IdentityChangedError(SessionError):
    """The peer's account key is not the one seen before."""

    code = "identity_changed"


class DeviceListError(SecureChatError):
    """A device list is forged, forked or older than the one already seen."""

    code = "device_list_invalid"


class TransportError(SecureChatError):
    """The network failed; the same call may be tried again."""

    code = "transport"


class ServerError(TransportError):
    """The server refused: its problem ``code``, whether trying again can help, and the refusing rule."""

    code = "server_refused"

    def __init__(
        self,
        server_code: str,
        *,
        status: int,
        retryable: bool,
        retry_after_s: float = 0.0,
        rule: str = "",
    ) -> None:
        by_rule = f" by the rule {rule}" if rule else ""
        super().__init__(f"the server refused: {server_code}{by_rule} (status {status})")
        self.rule = rule
        self.server_code = server_code
        self.status = status
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class StoreError(SecureChatError):
    """Base of failures of a local store or a server's database."""

    code = "store_error"


class WrongKeyError(StoreError):
    """The passphrase or key does not open the store, or the file is not a store."""

    code = "store_wrong_key"


class StoreLockedError(StoreError):
    """Another process has the store open."""

    code = "store_locked"


class StoreFullError(StoreError):
    """The disk or the quota is full; nothing was changed."""

    code = "store_full"


class StoreRollbackError(StoreError):
    """The store is an older copy of itself; sessions must be made anew."""

    code = "store_rollback"


class ClientError(SecureChatError):
    """Base of what an application can do wrong, or learn too late, with a client."""

    code = "client_error"


class MessageRefusedError(ClientError):
    """The text cannot be sent: it is empty, too long or not Unicode."""

    code = "message_refused"


class IdempotencyConflictError(ClientError):
    """The idempotency key was given before, for another text or recipient."""

    code = "idempotency_conflict"


class SendFailedError(ClientError):
    """The message will not be sent; ``reason`` is the stable code that says why."""

    code = "send_failed"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the message will not be sent: {reason}")
        self.reason = reason


class ClientClosedError(ClientError):
    """The client is closed."""

    code = "client_closed"


class AccessDeniedError(SecureChatError):
    """The policy refuses; ``policy`` is the id of the rule that decided."""

    code = "access_denied"

    def __init__(self, policy: str) -> None:
        super().__init__(f"refused by policy rule {policy}")
        self.policy = policy


class AuthenticationError(SecureChatError):
    """A token, session or proof of possession is missing, expired or wrong."""

    code = "unauthenticated"


class TokenInvalidError(AuthenticationError):
    """The token is malformed, tampered with, of an unknown key or for a foreign organisation."""

    code = "token_invalid"


class TokenExpiredError(AuthenticationError):
    """The token's time is over; a new one may be fetched."""

    code = "token_expired"


class TokenNotYetValidError(AuthenticationError):
    """The token was issued in the future: one of the two clocks is wrong."""

    code = "token_not_yet_valid"


class TokenAudienceError(AuthenticationError):
    """The token was minted for another server."""

    code = "token_audience"


class ProofInvalidError(AuthenticationError):
    """The challenge is unknown, used or too old, or its signature is not of the device's key."""

    code = "proof_invalid"


class DeviceUnknownError(AuthenticationError):
    """The device is not in the account's device list: never enrolled, or removed."""

    code = "device_unknown"


class SessionUnknownError(AuthenticationError):
    """The session ended or never was; a new one may be opened."""

    code = "session_unknown"


class PolicyError(SecureChatError):
    """A policy tree cannot be used; the text names each file, line and reason."""

    code = "policy_invalid"


class SettingsError(SecureChatError):
    """A setting is missing or out of range."""

    code = "settings_invalid"
