"""The bus of a single process: wake-ups go straight into the event loop."""

import asyncio
from collections.abc import Callable, Sequence

from securechat.relay.ports import Wakeup


class InProcessBus:
    """A Bus for nodes that live in the same event loop; one node is the usual number."""

    def __init__(self) -> None:
        self._receivers: dict[str, Callable[[Sequence[Wakeup]], None]] = {}

    def publish(self, node: str, wakeups: Sequence[Wakeup]) -> None:
        """See Bus; for a node that is not here the wake-ups are lost."""
        receive = self._receivers.get(node)
        if receive is not None:
            asyncio.get_running_loop().call_soon(receive, tuple(wakeups))

    def subscribe(self, node: str, receive: Callable[[Sequence[Wakeup]], None]) -> Callable[[], None]:
        """See Bus."""
        self._receivers[node] = receive

        def stop() -> None:
            if self._receivers.get(node) is receive:
                del self._receivers[node]

        return stop
