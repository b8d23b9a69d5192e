"""The first of our own errors in a group that a TaskGroup raised."""

from securechat.errors import SecureChatError


def first_error(group: BaseExceptionGroup[SecureChatError]) -> SecureChatError:
    """Return the first error in ``group``, however deep."""
    inner = group.exceptions[0]
    return first_error(inner) if isinstance(inner, BaseExceptionGroup) else inner
