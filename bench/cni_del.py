"""CNI DEL, one and sixteen at a time, with both launchers; against bridge + host-local."""

from bench.hosts.cni_operations import MANY, arena, compare
from bench.reporting.report import Report


async def measure(report: Report) -> None:
    with arena() as place:
        compare(report, place, "DEL", {1: 50, MANY: 30})
