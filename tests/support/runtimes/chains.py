"""Plugins of others behind ours: configuration lists, and CHECK of what a runtime made of one."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.lab.lab import Container, Executed, LabHost

_PLACES = ("/opt/cni/bin", "/usr/lib/cni")
_RESULTS = "/var/lib/cni/results"
"""Where libcni, which every runtime is built on, keeps what ADD got and gave."""

Plugin = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Chain:
    """A network's configuration list with these plugins, on one host."""

    host: LabHost
    network: str
    plugins: Sequence[Plugin]
    version: str = "1.0.0"

    def install(self) -> None:
        content = {"cniVersion": self.version, "name": self.network, "plugins": self.plugins}
        path = f"/etc/cni/net.d/90-{self.network}.conflist"  # not the first one, which others take
        self.host.run("sh", "-ec", 'echo "$1" >"$2"', "sh", json.dumps(content), path)

    def kept(self, container: Container) -> dict[str, Any]:
        """Return the record that libcni keeps of a container: the input of the chain's ADD, and its result."""
        text = self.host.run("cat", f"{_RESULTS}/{self.network}-{container.name}-{container.interface}")
        found = json.loads(text)
        assert isinstance(found, dict)
        return found

    def check(self, kind: str, container: Container) -> Executed:
        """Run CHECK with a plugin of the chain, as libcni does: it gets the result of the whole chain."""
        plugin = next(each for each in self.plugins if each["type"] == kind)
        cached = self.kept(container)
        declared = plugin.get("capabilities", {})
        assert isinstance(declared, dict)
        wishes = {name: value for name, value in cached["capabilityArgs"].items() if name in declared}
        config = {"cniVersion": self.version, "name": self.network, **plugin, "prevResult": cached["result"]}
        variables = {
            "CNI_COMMAND": "CHECK",
            "CNI_CONTAINERID": container.name,
            "CNI_NETNS": container.sandbox,
            "CNI_IFNAME": container.interface,
            "CNI_PATH": ":".join(_PLACES),
            "PATH": ":".join((*_PLACES, os.defpath, "/usr/sbin")),
        }
        stdin = json.dumps(config | {"runtimeConfig": wishes})
        done = self.host.execute([kind], variables, stdin)
        return Executed(done.returncode, done.stdout, done.stderr)
