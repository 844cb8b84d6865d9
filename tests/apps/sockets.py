"""The Autobahn WebSocket test cases, by kosoku, against an application behind the gateway. Environment as in portal.py.

The cases use WebSocket without TLS to one address. A forwarder adds what a browser has: TLS to the application's origin, its Host and Origin, and the entry's
cookie. It edits the handshake's head alone and forwards all other bytes unchanged.
"""

import asyncio
import os
import ssl
import sys
from urllib.parse import urlsplit

from kosoku import FailureError, run_fuzzingclient

ORIGIN = os.environ["PORTAL_ORIGIN"]
COOKIE = os.environ.get("PORTAL_COOKIE", "")
CA = os.environ.get("PORTAL_CA", "")
AT = urlsplit(ORIGIN)

# Cases that do not apply, with the reason.
EXCLUDED = {
    "12.*": "compression: the gateway negotiates no extension",
    "13.*": "compression: the gateway negotiates no extension",
}


def head_for_gateway(head):
    """The handshake as a page of the origin sends it."""
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"host:", b"origin:", b"cookie:"))]
    own = [f"Host: {AT.netloc}", f"Origin: {ORIGIN}"] + ([f"Cookie: {COOKIE}"] if COOKIE else [])
    return b"\r\n".join([lines[0], *(line.encode() for line in own), *lines[1:]])


async def copy(reader, writer):
    try:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    writer.close()


async def forward(reader, writer):
    tls = None
    if AT.scheme == "https":
        tls = ssl.create_default_context(cafile=CA or None)
        tls.set_alpn_protocols(["http/1.1"])
    name = {"server_hostname": AT.hostname} if tls else {}
    up_reader, up_writer = await asyncio.open_connection("127.0.0.1", AT.port, ssl=tls, **name)
    up_writer.write(head_for_gateway(await reader.readuntil(b"\r\n\r\n")))
    await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))


async def main():
    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    try:
        results = await run_fuzzingclient(address, sys.argv[1:] or None, list(EXCLUDED), concurrency=4)
    except FailureError as failure:
        print(failure)
        raise SystemExit(1)
    print(f"{len(results)} passed")


asyncio.run(main())
