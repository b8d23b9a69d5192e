"""A patient writes to a clinician and waits for the answer."""

import asyncio

from myapp import CHAT_URL, fetch_chat_token

from securechat.client import Client, DecryptFailed, IdentityChanged, Message


async def main() -> None:
    async with Client.open(
        CHAT_URL,
        token=fetch_chat_token,  # called on expiry only
        store="ana.db",  # encrypted; it resumes after a crash
        passphrase="correct horse battery staple",
    ) as me:
        dr_lee = await me.direct("dr.lee")
        print("compare once, by voice:", dr_lee.safety_number())
        sent = await dr_lee.send("Potassium 6.1 - please review", idempotency_key="lab-8841")
        await sent.accepted()  # on the relay's disk, as ciphertext

        async for event in me.events():
            match event:
                case Message(sender=sender, text=text):
                    print(f"{sender}: {text}")
                    await event.ack()
                    return
                case DecryptFailed(reason=reason):
                    print("waiting for a new session:", reason)
                case IdentityChanged(user=user):
                    print("compare safety numbers again with", user)
            await event.ack()


asyncio.run(main())
