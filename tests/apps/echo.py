"""An application that sends every WebSocket message back: `echo.py PORT`. Of the sub-protocols asked for, it takes the last."""

import asyncio
import logging
import os
import sys

# Its own limit of 4,096 pieces to a message is no part of the protocol.
os.environ["WEBSOCKETS_MAX_FRAGMENTS"] = "1000000"

from websockets.asyncio.server import serve  # noqa: E402


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def main(port):
    # What comes broken is the test's purpose, and no news.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    # 64 MiB: larger than anything asked for here, so that every limit met is the gateway's.
    last = lambda _, offered: offered[-1] if offered else None
    async with serve(echo, "127.0.0.1", port, max_size=64 << 20, select_subprotocol=last, compression=None, ping_interval=None):
        await asyncio.get_running_loop().create_future()


asyncio.run(main(int(sys.argv[1])))
