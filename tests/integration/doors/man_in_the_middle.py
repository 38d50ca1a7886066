"""A proxy that ends TLS at itself, or that changes greetings; run by another user than both ends.

`python -m tests.integration.doors.man_in_the_middle HOST PORT KIND` prints its own port, and when its input ends, what
it has read, in hexadecimal. Kinds: "ends TLS"; "wire" passes on what comes; "strips" takes the bits away that say that
an end can encrypt; "says local" adds the bits that say that both are on one machine, and that the connecting end is
known.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

from headrace.auth.own_certificate import connecting, listening
from headrace.comm.opening.opening_states import GREETING_BYTES

FLAGS_AT = GREETING_BYTES - 46
KNOWS, LOCAL, CAN_ENCRYPT = 2, 4, 8


class Proxy:
    def __init__(self, host: str, port: int, kind: str) -> None:
        self.host, self.port, self.kind = host, port, kind
        self.read = bytearray()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection(self.host, self.port)
        try:
            first, second = (
                await reader.readexactly(GREETING_BYTES),
                await other_reader.readexactly(GREETING_BYTES),
            )
            self.read += first + second
            other_writer.write(self.changed(first))
            writer.write(self.changed(second))
            if self.kind == "ends TLS":
                await asyncio.gather(
                    writer.start_tls(listening()[0]),
                    other_writer.start_tls(connecting(), server_hostname=None),
                )
            await asyncio.gather(self.relay(reader, other_writer), self.relay(other_reader, writer))
        except (OSError, EOFError, ssl.SSLError):
            pass
        finally:
            writer.close()
            other_writer.close()

    def changed(self, greeting: bytes) -> bytes:
        made = bytearray(greeting)
        if self.kind == "strips":
            made[FLAGS_AT] &= ~CAN_ENCRYPT
        elif self.kind == "says local":
            made[FLAGS_AT] |= LOCAL | KNOWS
        return bytes(made)

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            self.read += data
            writer.write(data)
            await writer.drain()
        writer.close()


async def main(host: str, port: str, kind: str) -> None:
    """Serve until the input ends."""
    proxy = Proxy(host, int(port), kind)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(proxy.read.hex(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
