"""An application that echoes every WebSocket message: `echo.py PORT`. It selects the last subprotocol offered."""

import asyncio
import logging
import os
import sys

# The library limits a message to 4,096 fragments; the protocol does not.
os.environ["WEBSOCKETS_MAX_FRAGMENTS"] = "1000000"

from websockets.asyncio.server import serve  # noqa: E402


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def main(port):
    # Protocol errors are part of the tests and need no log.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    # 64 MiB: larger than any test message, so that every limit reached is the gateway's.
    last = lambda _, offered: offered[-1] if offered else None
    async with serve(echo, "127.0.0.1", port, max_size=64 << 20, select_subprotocol=last, compression=None, ping_interval=None):
        await asyncio.get_running_loop().create_future()


asyncio.run(main(int(sys.argv[1])))
