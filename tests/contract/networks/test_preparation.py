"""An agent that finds everything as it should be writes nothing, and so loads nothing that only writing needs."""

import json
import sys
from collections.abc import Iterator
from ipaddress import IPv4Interface
from typing import Any

import pytest

from tests.support.kernel.hosted_kernel import SimulatedHost

pytestmark = pytest.mark.usefixtures("root")

AGENT = """
import json, sys
from dataclasses import replace
from ipaddress import IPv4Address

from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import HOST
from overlayd.dataplane.desired.resolve import resolve
from overlayd.kernel.linux import LinuxKernel
from overlayd.model.network import Topology
from tests.support.controllers.clusters import HERE, example, site

def library():
    return sorted(name for name in sys.modules if name.partition(".")[0] == "pyroute2")

known = example(Topology.SWITCHED)
me = replace(known.hosts[HERE], address=IPv4Address("192.0.2.1"))
desired = resolve(known.changed(known.revision, [me]), site(), [])
kernel = LinuxKernel()
kernel.reap(kernel.leftovers())
plan = diff(desired, kernel.observe(kernel.namespaces() | {HOST}))
found = {"planned": len(plan), "before": library()}
found["failed"] = [str(outcome) for outcome in kernel.apply(plan) if not outcome.done]
found["after"] = library()
kernel.prepare()
found["prepared"] = library()
kernel.close()
import pyroute2
found["whole"] = hasattr(pyroute2, "IPRoute")
print(json.dumps(found))
"""


@pytest.fixture
def host() -> Iterator[SimulatedHost]:
    with SimulatedHost(IPv4Interface("192.0.2.1/24")) as made:
        yield made


def agent_on(host: SimulatedHost) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.command([sys.executable, "-c", AGENT]))
    return found


def test_a_restart_that_writes_nothing_does_not_load_pyroute2(host: SimulatedHost) -> None:
    first, second = agent_on(host), agent_on(host)
    assert (first["failed"], second["failed"]) == ([], [])
    assert first["planned"] > 0
    assert first["before"] == []
    assert first["after"] != []
    assert (second["planned"], second["before"], second["after"]) == (0, [], [])


def test_what_is_loaded_is_a_part_of_pyroute2_that_the_whole_can_follow(host: SimulatedHost) -> None:
    found = agent_on(host)
    assert "pyroute2" not in found["prepared"]
    assert not any(name.startswith(("pyroute2.ndb", "pyroute2.iproute")) for name in found["prepared"])
    assert found["whole"]
