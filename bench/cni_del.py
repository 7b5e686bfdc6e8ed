"""CNI DEL, one and sixteen at a time, with both launchers; against bridge + host-local."""

from bench.cni_operations import MANY, arena, compare
from bench.report import Report

BUDGETS = {("launcher", MANY): 10.0}


async def measure(report: Report) -> None:
    with arena() as place:
        compare(report, place, "DEL", BUDGETS)
