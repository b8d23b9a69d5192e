"""The half that your backend keeps: it knows who is logged in, and mints a token that lives ten minutes."""

import os

from securechat.tokens import TokenMinter

CHAT_URL = os.environ.get("CHAT_URL", "http://127.0.0.1:8440")
minter = TokenMinter.from_file("mint.key")  # made by: python -m securechat token keygen


def logged_in_user() -> tuple[str, list[str]]:
    """Stands for your own log-in: return the opaque id and the roles of whoever passed it."""
    return os.environ["CHAT_USER"], [os.environ["CHAT_ROLE"]]


async def fetch_chat_token() -> str:
    """In your app this is a call to your backend, with its own authentication."""
    user, roles = logged_in_user()
    return minter.mint(user, org="lakeside", roles=roles, ttl_s=600)
