"""Base64url without padding (RFC 4648, section 5): how bytes stand in JSON, in headers and in key files."""

import base64
import binascii

from securechat.errors import WireError


def encode_base64url(raw: bytes) -> str:
    """Return ``raw`` as text, without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Return the bytes. Raises WireError for anything that ``encode_base64url`` would not have written."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError("a field is not base64url") from error
    if encode_base64url(raw) != text:
        raise WireError("a field is not canonical base64url without padding")
    return raw
