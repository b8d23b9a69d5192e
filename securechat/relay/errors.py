"""The errors of the relay.

RelayError (SecureChatError)
├── UnknownRecipientError    no such account or device
├── MessageTooLargeError     a body over the limit
├── MailboxFullError         the recipient's mailbox holds as much as it may; may be tried again
├── StaleEpochError          an acknowledgement for another life of the mailbox
├── AckBeyondEndError        an acknowledgement of what was never delivered
└── ProtocolViolationError   the peer of a connection broke its rules; the connection is closed
"""

from securechat.errors import SecureChatError
from securechat.wire.frames import CloseCode


class RelayError(SecureChatError):
    """Base of the relay's own errors."""

    code = "relay_error"


class UnknownRecipientError(RelayError):
    """There is no such account, or the account has no such device.

    The text is always the same: it must not tell whether the account exists in another organisation.
    """

    code = "unknown_recipient"

    def __init__(self) -> None:
        super().__init__("there is no such device")


class MessageTooLargeError(RelayError):
    """The body is longer than one message may be."""

    code = "message_too_large"


class MailboxFullError(RelayError):
    """The recipient's mailbox holds as many messages or bytes as it may."""

    code = "mailbox_full"


class StaleEpochError(RelayError):
    """The mailbox was restored or made anew; fetch again from its beginning."""

    code = "stale_epoch"


class AckBeyondEndError(RelayError):
    """The sequence number is above the last one of the mailbox."""

    code = "ack_beyond_end"


class ProtocolViolationError(RelayError):
    """A peer broke the rules of a connection, which is closed with ``close_code``."""

    code = "protocol_violation"

    def __init__(self, close_code: CloseCode) -> None:
        super().__init__(f"the connection is closed with {int(close_code)}")
        self.close_code = close_code
