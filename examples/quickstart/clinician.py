"""A clinician answers the first message."""

import asyncio

from myapp import CHAT_URL, fetch_chat_token

from securechat.client import Client, Message


async def main() -> None:
    async with Client.open(
        CHAT_URL,
        token=fetch_chat_token,
        store="dr-lee.db",
        passphrase="a passphrase of the clinician's own",
    ) as me:
        print("ready", flush=True)
        async for event in me.events():
            await event.ack()
            if isinstance(event, Message):
                answer = await me.send(event.sender, "Please come in today. Do not take the tablets.")
                await answer.accepted()
                return


asyncio.run(main())
