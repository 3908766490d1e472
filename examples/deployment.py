"""A server that is replaced while players call it, and no call fails.

    ringback broker
    python examples/deployment.py tcp://127.0.0.1:5771 1

Start a second one, with the version 2. It stands by. Then stop the first one with Ctrl-C, or with SIGTERM: it
hands over, finishes what it has begun, and ends. A service manager can do the same.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from ringback import LinkError, NoServer
from ringback.aio import Server


async def serve(address: str, version: int) -> None:
    server = Server(address, standby=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    @server.register_server_callback("shop:version")
    async def version_of_the_shop(source: object, seconds: float) -> int:
        await asyncio.sleep(seconds)  # the work of the handler
        return version

    @server.on_acting
    def acts(acting: bool) -> None:
        print(f"version {version} {'acts' if acting else 'acts no more'}", flush=True)

    async with server:
        print(f"version {version} is ready", flush=True)
        await stop.wait()
        try:
            await server.hand_over()
        except NoServer:
            print(f"no other server stands by: after version {version} there is none", flush=True)


if __name__ == "__main__":
    try:
        address, version = sys.argv[1], int(sys.argv[2])
    except (IndexError, ValueError):
        sys.exit("usage: python examples/deployment.py BACKEND VERSION, as in tcp://127.0.0.1:5771 1")
    try:
        asyncio.run(serve(address, version))
    except (LinkError, ValueError) as error:
        sys.exit(str(error))
