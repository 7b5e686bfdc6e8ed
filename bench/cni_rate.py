"""The attachments per second that one host sustains, sixteen at a time; against bridge + host-local."""

from bench.cni_operations import MANY, PEER, arena
from bench.report import Report

LEAST = 600.0


async def measure(report: Report) -> None:
    runs, count = (1, 32) if report.quick else (3, 256)
    with arena() as place:
        sandboxes = [f"rate-{number}" for number in range(count)]
        place.runtime.add_sandboxes(sandboxes)
        found: dict[str, list[float]] = {"launcher": [], PEER: []}
        step = report.step("runs", runs)
        for number in range(runs):
            for name, rates in found.items():
                containers = {f"{sandbox}-{number}-{name.split()[0]}": sandbox for sandbox in sandboxes}
                rates.append(place.runtime.rate(place.plugins[name], "ADD", containers, MANY))
                place.runtime.rate(place.plugins[name], "DEL", containers, MANY)
            report.progress.advance(step)
    report.at_least(f"{count} attachments", "1/s", found["launcher"], LEAST)
    report.compare(f"{count} attachments", "1/s", found["launcher"], PEER, found[PEER], least=1.0, more=True)
