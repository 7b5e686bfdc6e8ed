"""Hosts that need blocks at the same time, of a network of small ones: all of what they attach finds an address."""

import json
from concurrent.futures import ThreadPoolExecutor

from tests.integration.conftest import NewNetwork
from tests.integration.runtimes.test_cni_faults import add_sandboxes, execute
from tests.support.lab.lab import Lab

EACH = 50
"""Containers of each host, of which a block takes fifteen."""


def test_hosts_that_grow_at_once_find_an_address_for_each_container(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--block-length", "28", cidr="10.98.7.0/24")
    containers = [(host, f"{network}-{host.name}-{number}") for host in lab.hosts for number in range(EACH)]
    for host in lab.hosts:
        add_sandboxes(host, [name for each, name in containers if each is host])
    with ThreadPoolExecutor(len(containers)) as threads:
        added = list(threads.map(lambda each: execute(each[0], "ADD", network, each[1]), containers))
        assert [done for done in added if done.status] == []
        addresses = {json.loads(done.stdout)["ips"][0]["address"] for done in added}
        assert len(addresses) == len(containers)
        deleted = threads.map(lambda each: execute(each[0], "DEL", network, each[1]), containers)
        assert [done for done in deleted if done.status] == []
