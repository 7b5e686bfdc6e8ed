"""CNI ADD, one and sixteen at a time, with both launchers, and its stages; against bridge + host-local."""

from bench.cni_operations import MANY, arena, compare
from bench.cni_stages import tell_stages
from bench.report import Report

BUDGETS = {("launcher", 1): 8.0, ("shim", 1): 1.1, ("launcher", MANY): 6.0}


async def measure(report: Report) -> None:
    with arena() as place:
        compare(report, place, "ADD", BUDGETS)
        tell_stages(report, place)
