"""What all stored states share: fields with checked lengths, and values that do not print.

States are msgspec structures: an encryption makes a few of them anew, and they are the record's schema at the
same time (docs/format/records.md). Keys inside are plain bytes; ``SecretBytes`` stands at the edges.
"""

from typing import Annotated, NoReturn

import msgspec

from securechat.wire.codec import MAX_U32

Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=MAX_U32)]
U63 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class SecretState(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of every state that holds keys: redacted ``repr``, no pickling, fields in a fixed order."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(**)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")
