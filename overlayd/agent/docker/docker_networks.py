"""Which overlay network each network and address pool of Docker belongs to, kept over reboots: Docker says it once.

An option of the request for a pool can name the overlay network to the IPAM driver. A pool without this option is
*unnamed*: its overlay network is known when Docker creates its own network, with the pool, at the network driver.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import structlog

from overlayd.agent.runtime.versioned_file import NewerVersion, read_versioned
from overlayd.configuration.files import exists, write_atomically
from overlayd.model import ids
from overlayd.model.address import IpNetwork
from overlayd.model.errors import InvalidValue, NotFound
from overlayd.model.ids import NetworkName
from overlayd.wire.fields import parse_cidr

_log = structlog.get_logger(__name__)

_VERSION = 1
_SIZE_MAX = 1 << 22
_COUNT_MAX = 4096
RUNTIME = "docker"
"""The `runtime` of what Docker attached."""

_ID_MAX = 64
"""Characters: Docker's ids are 32 bytes in hexadecimal."""


class DockerNetworks:
    """The overlay networks of Docker's networks, by Docker's ids, and those of unnamed pools."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: dict[str, NetworkName] = {}
        self._pools: dict[IpNetwork, NetworkName] = {}

    def load(self) -> None:
        """Read what was written, or set a damaged file aside; raise `NewerVersion`, or `OSError`."""
        if not exists(self._path):
            return
        try:
            self._read()
        except NewerVersion:
            raise
        except InvalidValue as error:
            aside = self._path.with_suffix(".damaged")
            self._path.replace(aside)
            _log.warning("which networks Docker has is not known", problem=str(error), set_aside=str(aside))

    def _read(self) -> None:
        found = read_versioned(self._path, _SIZE_MAX, _VERSION)
        names, pools = found.object("networks"), found.object("pools")
        self._names = {docker_id: ids.network_name(names.text(docker_id), docker_id) for docker_id in names.value}
        self._pools = {parse_cidr(pool, pool): ids.network_name(pools.text(pool), pool) for pool in pools.value}

    def name(self, docker_id: str) -> NetworkName:
        """Return which network is behind one of Docker's; raise `NotFound`."""
        found = self._names.get(docker_id)
        if found is None:
            raise NotFound(
                f"Docker's network {docker_id[:12]} was not created while overlayd could remember it: remove it, and"
                " create it again"
            )
        return found

    def of_pool(self, pool: IpNetwork) -> NetworkName | None:
        """Return the overlay network of an unnamed pool, None while no creation of a network has named it."""
        return self._pools.get(pool)

    def put(self, docker_id: str, name: NetworkName, pools: Iterable[IpNetwork]) -> None:
        """Remember a network of Docker, and its unnamed pools.

        Raises `InvalidValue` as `check` does, or `OSError` when the file cannot be written.
        """
        bound = self.check(docker_id, name, pools)
        self._write({**self._names, docker_id: name}, {**self._pools, **bound})

    def check(self, docker_id: str, name: NetworkName, pools: Iterable[IpNetwork]) -> dict[IpNetwork, NetworkName]:
        """Return the overlay network of each pool, as `put` would remember it.

        Raises `InvalidValue`, also for a pool that is another network's.
        """
        if not docker_id or len(docker_id) > _ID_MAX or not docker_id.isalnum():
            raise InvalidValue("is no id of a network", field="NetworkID")
        if len(self._names) >= _COUNT_MAX and docker_id not in self._names:
            raise InvalidValue(f"Docker has {_COUNT_MAX} networks of overlayd already", field="NetworkID")
        bound = dict.fromkeys(pools, name)
        if taken := next((pool for pool in bound if self._pools.get(pool, name) != name), None):
            raise InvalidValue(
                f"{taken} is behind Docker's networks of network {self._pools[taken]}: name {name} to IPAM, too,"
                f" by --ipam-opt overlayd.network={name}"
            )
        return bound

    def remove(self, docker_id: str) -> None:
        """Forget a network, and with the last one of a name its pools; raise `OSError` when that cannot be written."""
        if docker_id in self._names:
            names = {key: name for key, name in self._names.items() if key != docker_id}
            self._write(names, {pool: name for pool, name in self._pools.items() if name in names.values()})

    def _write(self, names: dict[str, NetworkName], pools: dict[IpNetwork, NetworkName]) -> None:
        content = {"v": _VERSION, "networks": names, "pools": {str(pool): name for pool, name in pools.items()}}
        write_atomically(self._path, json.dumps(content).encode())
        self._names, self._pools = names, pools
