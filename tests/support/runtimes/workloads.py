"""A runtime's container as the kernel has it: the runtimes of the tests print few of the addresses that they got."""

import json

from tests.support.lab.lab import Container, LabHost


def found(host: LabHost, name: str, network: str, sandbox: str, interface: str = "eth0") -> Container:
    """Return a container whose sandbox is at this path, with the addresses that its interface has there."""
    shown = host.run("nsenter", f"--net={sandbox}", "ip", "-j", "address", "show", "dev", interface)
    (link,) = json.loads(shown)
    addresses = [each for each in link["addr_info"] if each["scope"] == "global"]
    ips = [{"address": f"{each['local']}/{each['prefixlen']}"} for each in addresses]
    interfaces = [{"name": interface, "mac": link["address"]}]
    return Container(host, name, network, interface, {"interfaces": interfaces, "ips": ips}, sandbox)
