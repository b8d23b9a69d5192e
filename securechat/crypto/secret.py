"""Key material that does not print, compare in variable time or pickle."""

import hmac
from typing import Final, NoReturn

REDACTED: Final = "SecretBytes(**)"


class SecretBytes:
    """Secret bytes; ``reveal()`` is the one way out, so that it can be searched for."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def reveal(self) -> bytes:
        """Return the bytes, for a primitive or an encrypted store."""
        return self._raw

    def __len__(self) -> int:
        return len(self._raw)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretBytes):
            return NotImplemented
        return hmac.compare_digest(self._raw, other._raw)

    __hash__ = None  # type: ignore[assignment]  # a hash would allow secrets as dictionary keys

    def __repr__(self) -> str:
        return REDACTED

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")
