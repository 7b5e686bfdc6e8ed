"""Hosts that ask for blocks at once: `python -m bench.controllers.block_asker PORT CA_FILE TOKEN_FILE`.

Each line of stdin is a JSON object with the network, the number of hosts and the number of blocks for each. Each line
of stdout is one with the seconds from the first request to the last answer, and those that each request took.
"""

import asyncio
import json
import sys
import time

from bench.controllers.http_connection import Authority, Connection


async def serve(authority: Authority) -> None:
    loop = asyncio.get_running_loop()
    connections: list[Connection] = []
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        connections += [Connection(authority) for _ in range(len(connections), asked["hosts"])]
        started = time.perf_counter()
        found = await asyncio.gather(
            *(
                _ask(connections[number], asked["network"], f"h{number}", asked["blocks"])
                for number in range(asked["hosts"])
            )
        )
        taken = time.perf_counter() - started
        print(json.dumps({"taken": taken, "each": [each for times in found for each in times]}), flush=True)


async def _ask(connection: Connection, network: str, host: str, blocks: int) -> list[float]:
    times: list[float] = []
    held: list[object] = []
    for _ in range(blocks):
        started = time.perf_counter()
        body = {"host": host, "family": 4, "held": held}
        answer = await connection.ask("POST", f"/v1/networks/{network}/blocks", body)
        held.append(answer["cidr"])
        times.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    asyncio.run(serve(Authority.of(sys.argv[1:])))
