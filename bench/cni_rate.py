"""The attachments per second that one host sustains, sixteen at a time, until the controller knows them all.

The peer, bridge + host-local, publishes nothing.
"""

import time
from collections.abc import Mapping

from bench.hosts.cni_operations import MANY, PEER, Arena, arena
from bench.reporting.report import Report


async def measure(report: Report) -> None:
    runs, count = (1, 32) if report.quick else (4, 512)
    with arena() as place:
        sandboxes = [f"rate-{number}" for number in range(count)]
        place.runtime.add_sandboxes(sandboxes)
        answered: dict[str, list[float]] = {"launcher": [], PEER: []}
        published: list[float] = []
        step = report.step("runs", runs)
        for number in range(runs):
            names = list(answered)
            for name in names if number % 2 else reversed(names):
                containers = {f"{sandbox}-{number}-{name.split()[0]}": sandbox for sandbox in sandboxes}
                started = time.perf_counter()
                place.runtime.execute_all(place.plugins[name], "ADD", containers, MANY)
                answered[name].append(count / (time.perf_counter() - started))
                if name != PEER:
                    place.until_published(containers.keys())
                    published.append(count / (time.perf_counter() - started))
                _detach(place, name, containers)
            report.progress.advance(step)
    report.compare("attachments, published", "1/s", published, PEER, answered[PEER], more=True)
    report.compare("attachments, answered", "1/s", answered["launcher"], PEER, answered[PEER], more=True)


def _detach(place: Arena, name: str, containers: Mapping[str, str]) -> None:
    place.runtime.execute_all(place.plugins[name], "DEL", containers, MANY)
    if name != PEER:
        place.settle(frozenset())
