"""An attachment of a workload to a network, and what the runtime reports about the workload."""

from dataclasses import dataclass

from overlayd.model import ids
from overlayd.model.address import Family, IpAddress
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import ContainerId, HostId, InterfaceName, MacAddress, NetworkName, ReservationName, quoted

TEXT_MAX = 253
"""Characters. A pod's name is a DNS name (RFC 1123), which has at most as many."""

COUNT_MAX = 64
"""The largest number of labels, and of aliases."""

SIZE_MAX = 1500
"""Characters of all labels, or of all aliases: hosts publish hundreds of endpoints in one body of bounded size."""


CNI = "cni"
"""The `runtime` of a workload that a CNI plugin attached."""


def _check_text(text: str, field: str) -> None:
    if len(text) > TEXT_MAX:
        raise InvalidValue(f"{quoted(text)} is longer than {TEXT_MAX} characters", field=field)
    if not (text.isascii() and text.isprintable()):
        raise InvalidValue(f"{quoted(text)} contains characters other than printable ASCII", field=field)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of Kubernetes, or of another runtime that has pods. A field that the runtime does not report is empty."""

    namespace: str = ""
    name: str = ""
    uid: str = ""
    infra_container_id: str = ""

    def __post_init__(self) -> None:
        """Raise `InvalidValue` when a field breaks its rule."""
        for field in ("namespace", "name", "uid", "infra_container_id"):
            _check_text(getattr(self, field), field)


@dataclass(frozen=True, slots=True)
class Workload:
    """A pod, labels in the order of their keys, alternative names, and which runtime calls it by which name.

    They are for people and tools: forwarding does not depend on them. `runtime` is the way by which it was attached:
    ``cni``, ``docker``, ``netavark`` or ``netns``, and others of later releases; it is empty from an agent of an
    earlier one. `name` is empty when its runtime reports none.
    """

    pod: Pod | None = None
    labels: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    runtime: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        """Raise `InvalidValue` when a field breaks its rule."""
        _check_text(self.runtime, "runtime")
        _check_text(self.name, "workload")
        labels = [text for label in self.labels for text in label]
        for field, count, texts in (("labels", len(self.labels), labels), ("aliases", len(self.aliases), self.aliases)):
            if count > COUNT_MAX:
                raise InvalidValue(f"{count} entries are more than {COUNT_MAX}", field=field)
            if sum(map(len, texts)) > SIZE_MAX:
                raise InvalidValue(f"have more than {SIZE_MAX} characters", field=field)
            for text in texts:
                _check_text(text, field)
        if list(self.labels) != sorted(dict(self.labels).items()) or any(not key for key, _ in self.labels):
            raise InvalidValue("must be in the order of their keys, and each key unique and not empty", field="labels")

    @property
    def attached_by(self) -> str:
        """The way by which it was attached: CNI where it does not say, as an earlier release had no other."""
        return self.runtime or CNI


UNKNOWN_WORKLOAD = Workload()
"""What most runtimes report: nothing."""

SHARES_MAX = 16
"""The largest number of shared reservations of one interface."""

EndpointKey = tuple[NetworkName, HostId, ContainerId, InterfaceName]
"""It includes the host, because container ids are unique on one host only."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One interface of one container in one network, with at most one address of each family.

    `sandbox` is the path of its network namespace on `host`, and `workload` what the runtime reports about it. `shares`
    names the shared reservations whose addresses it may use in addition to its own.
    """

    network: NetworkName
    container_id: ContainerId
    interface: InterfaceName
    host: HostId
    addresses: tuple[IpAddress, ...]
    mac: MacAddress
    sandbox: str
    workload: Workload = UNKNOWN_WORKLOAD
    shares: tuple[ReservationName, ...] = ()

    def __post_init__(self) -> None:
        """Raise `InvalidValue` when a field breaks its rule."""
        ids.network_name(self.network, "network")
        ids.container_id(self.container_id)
        ids.interface_name(self.interface)
        ids.host_id(self.host, "host")
        ids.mac_address(self.mac)
        check_addresses(self.addresses)
        if len(self.shares) > SHARES_MAX:
            raise InvalidValue(f"an interface has at most {SHARES_MAX} shared reservations", field="shares")
        for index, name in enumerate(self.shares):
            ids.reservation_name(name, f"shares[{index}]")

    @property
    def key(self) -> EndpointKey:
        """The endpoint's unique key in the cluster."""
        return (self.network, self.host, self.container_id, self.interface)


def check_addresses(addresses: tuple[IpAddress, ...], field: str = "addresses") -> None:
    """Raise `InvalidValue` unless these are one address, or one of each family."""
    families = [Family.of(address) for address in addresses]
    if not families or len(set(families)) != len(families):
        raise InvalidValue(f"expected one address, or one of each family, not {len(addresses)}", field=field)
