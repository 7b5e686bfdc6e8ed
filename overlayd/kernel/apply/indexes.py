"""Interface indexes by namespace and name, for the time of one plan."""

from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.apply.sockets import Sockets
from overlayd.kernel.netlink import requests
from overlayd.kernel.netlink.decoding import link_reading
from overlayd.kernel.port import KernelError
from overlayd.model.ids import InterfaceName


class NamespaceIndexes(dict[InterfaceName, int]):
    """Interface indexes of one namespace, asked for when they are first needed. A missing device raises ENODEV."""

    def __init__(self, sockets: Sockets, ns: NamespaceRef) -> None:
        super().__init__()
        self._sockets = sockets
        self._ns = ns

    def __missing__(self, name: InterfaceName) -> int:
        netlink = self._sockets.into(self._ns)
        try:
            answer = netlink.get(requests.link(name))
        except KernelError as error:
            raise KernelError(error.errno, f"{name}: {error.detail}") from error
        self[name] = link_reading.device(answer).index
        return self[name]


class Indexes(dict[NamespaceRef, NamespaceIndexes]):
    """Interface indexes of every namespace."""

    def __init__(self, sockets: Sockets) -> None:
        super().__init__()
        self._sockets = sockets

    def __missing__(self, ns: NamespaceRef) -> NamespaceIndexes:
        self[ns] = NamespaceIndexes(self._sockets, ns)
        return self[ns]
