"""A process that answers each message with itself: prints its address, and ends with its standard input."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from headrace.comm import Comm, CommClosedError, listen


async def answer(comm: Comm) -> None:
    try:
        while True:
            await comm.write(await comm.read())
    except CommClosedError:
        await comm.close()


async def main() -> None:
    async with await listen("tcp://127.0.0.1:0", answer) as listener:
        print(listener.contact_address, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
