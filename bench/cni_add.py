"""CNI ADD, one and sixteen at a time, with both launchers, and its stages; against bridge + host-local."""

from bench.hosts.cni_operations import MANY, arena, compare
from bench.hosts.cni_stages import tell_stages
from bench.reporting.report import Report


async def measure(report: Report) -> None:
    with arena() as place:
        compare(report, place, "ADD", {1: 100, MANY: 40})
        tell_stages(report, place)
