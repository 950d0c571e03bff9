"""`python -m bench.load SPEC`: one JSON line each tenth of a second, `stopped`, then the result."""

import asyncio
import gc
import sys

import msgspec
import uvloop

from bench.load.load import Load
from bench.load.spec import LoadSpec

_TELL_SECONDS = 0.1


async def main(spec: LoadSpec) -> None:
    load = Load(spec, on_stopped=lambda: _write({"stopped": True}))
    listening, telling = asyncio.create_task(_listen(load)), asyncio.create_task(_tell(load))
    result = await load.run()
    for task in (listening, telling):
        task.cancel()
    _write({"result": msgspec.to_builtins(result)})


async def _listen(load: Load) -> None:
    """Lines on stdin: `allow N` and `stop`."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        word, _, number = line.decode().strip().partition(" ")
        if word == "allow":
            load.allow(int(number))
        else:
            load.stop()


async def _tell(load: Load) -> None:
    while True:
        await asyncio.sleep(_TELL_SECONDS)
        _write({"begun": load.begun, "good": load.good})


def _write(line: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    gc.disable()  # nothing here makes cycles, and a pause would look like one of the service
    uvloop.run(main(msgspec.json.decode(sys.argv[1], type=LoadSpec)))
