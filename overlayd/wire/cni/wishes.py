"""What an ADD asks for, in the config (`runtimeConfig`, `args`), in CNI_ARGS, or in annotations of the pod.

Precedence, highest first: `runtimeConfig`, `args`, CNI_ARGS (CNI conventions), annotations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from overlayd.model import ids
from overlayd.model.address import Family, IpAddress
from overlayd.model.bandwidth import UNLIMITED, Bandwidth, Rate
from overlayd.model.endpoint import TEXT_MAX, UNKNOWN_WORKLOAD, Pod, Workload, check_addresses
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import MacAddress, ReservationName, quoted
from overlayd.model.published_port import PortMapping
from overlayd.wire.cni import bandwidth, ports
from overlayd.wire.cni.error import unsupported
from overlayd.wire.cni.spelling import as_specified
from overlayd.wire.fields import Fields, Json, parse_address, parse_cidr

T = TypeVar("T")

ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
_OBJECTS = frozenset({"bandwidth", "dns", "ipRanges", "portMappings"})
"""The capabilities whose values have fields that the CNI conventions name. In the others users choose the names."""

_OURS = "overlayd/"
"""The prefix of the names of our annotations."""

_POD = {
    "K8S_POD_NAMESPACE": "namespace",
    "K8S_POD_NAME": "name",
    "K8S_POD_UID": "uid",
    "K8S_POD_INFRA_CONTAINER_ID": "infra_container_id",
}
_NOMAD = {
    "NOMAD_REGION": "nomad.region",
    "NOMAD_NAMESPACE": "nomad.namespace",
    "NOMAD_JOB_ID": "nomad.job",
    "NOMAD_GROUP_NAME": "nomad.group",
    "NOMAD_ALLOC_ID": "nomad.allocation",
}
"""The arguments by which Nomad says what it attaches, always with IgnoreUnknown, and the labels that they become."""

_ARGUMENTS = frozenset({"IP", "MAC", "RESERVATION", "IgnoreUnknown", *_POD})
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})

RANGES_MAX = 64

_BURST_FILLER = (1 << 32) - 1
"""Bits: the burst that containerd and CRI-O send because a pod's annotations name none. It is ignored: with it half a
gigabyte would pass before the limit takes effect, and as much could queue."""


@dataclass(frozen=True, slots=True)
class AddressRange:
    """Addresses of one family from `first` to `last`, both included."""

    first: IpAddress
    last: IpAddress

    @property
    def family(self) -> Family:
        """The IP version of its addresses."""
        return Family.of(self.first)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What an ADD asks for. Defaults mean that the network decides.

    `addresses` has at most one of each family; addresses of the other families come from `ranges`, if any. `dns` is
    passed through. `masquerade` means that the network must have egress. `fields` maps `address`, `reservation` and
    `mac` to the fields of the request that asked for them, because only the agent finds out that one is not available.
    """

    addresses: tuple[IpAddress, ...] = ()
    ranges: tuple[AddressRange, ...] = ()
    reservations: tuple[ReservationName, ...] = ()
    mac: MacAddress | None = None
    dns: Json = None
    ports: tuple[PortMapping, ...] = ()
    bandwidth: Bandwidth = UNLIMITED
    workload: Workload = UNKNOWN_WORKLOAD
    masquerade: bool = False
    fields: Mapping[str, str] = field(default_factory=dict, hash=False)


NOTHING = Wishes()


def parse(arguments: str, config: Fields) -> Wishes:
    """Read CNI_ARGS and the config of an ADD; raise `InvalidValue` that names the argument or the field."""
    requested, runtime, annotations = _arguments(arguments), _runtime_config(config), _annotations(config)
    args = _inside(config, "args")
    conventional, ours = (_inside(args, "cni") if args else None), (_inside(args, "overlayd") if args else None)
    addresses, addresses_at = _addresses(runtime, conventional, requested, annotations)
    reservations, reservations_at = _reservations(ours, requested, annotations)
    mac, mac_at = _mac(runtime, requested, annotations)
    places = {"address": addresses_at, "reservation": reservations_at, "mac": mac_at}
    return Wishes(
        addresses=addresses,
        ranges=_ranges(runtime) if runtime else (),
        reservations=reservations,
        mac=mac,
        dns=_dns(config, runtime),
        ports=port_mappings(config),
        bandwidth=limits(config),
        workload=_workload(requested, conventional, _aliases(config, runtime)),
        masquerade=config.flag("ipMasq"),
        fields={name: place for name, place in places.items() if place},
    )


def port_mappings(config: Fields) -> tuple[PortMapping, ...]:
    """Return the ports to publish."""
    runtime = _runtime_config(config)
    return ports.decode(runtime, "portMappings") if runtime else ()


def limits(config: Fields) -> Bandwidth:
    """Return the bandwidth limits of the container."""
    runtime = _runtime_config(config)
    given = bandwidth.decode(runtime, "bandwidth") if runtime else UNLIMITED
    return Bandwidth(_without_filler(given.ingress), _without_filler(given.egress))


def _without_filler(rate: Rate | None) -> Rate | None:
    return replace(rate, burst=0) if rate and rate.burst == _BURST_FILLER else rate


def _arguments(text: str) -> Fields:
    """Read CNI_ARGS (``IP=10.0.0.5;MAC=…``); refuse unknown names unless it says ``IgnoreUnknown=1``."""
    found = {name: value for name, _, value in (part.partition("=") for part in text.split(";") if part)}
    unknown = sorted(found.keys() - _ARGUMENTS)
    if unknown and found.get("IgnoreUnknown") not in _TRUE:
        known = ", ".join(sorted(_ARGUMENTS))
        raise InvalidValue(
            f"{quoted(unknown[0])} is not one of {known}; IgnoreUnknown=1 lets it pass", field="CNI_ARGS"
        )
    return Fields(dict(found), "CNI_ARGS")


def _runtime_config(config: Fields) -> Fields | None:
    given = _inside(config, "runtimeConfig")
    if given is None:
        return None
    values = {name: as_specified(value) if name in _OBJECTS else value for name, value in given.value.items()}
    return Fields(values, given.path)


def _annotations(config: Fields) -> Fields | None:
    runtime = _runtime_config(config)
    return _inside(runtime, ANNOTATIONS) if runtime else None


def _addresses(
    runtime: Fields | None, conventional: Fields | None, requested: Fields, annotations: Fields | None
) -> tuple[tuple[IpAddress, ...], str]:
    """Return the requested addresses and the field that has them. A prefix length, as some runtimes add, is ignored."""
    for place in (runtime, conventional):
        if place and place.has("ips") and (texts := place.texts("ips")):
            return _parse_addresses(texts, place.at("ips")), place.at("ips")
    for place, name in ((requested, "IP"), (annotations, f"{_OURS}ips")):
        if place and place.has(name):
            return _parse_addresses(place.text(name).split(","), place.at(name)), place.at(name)
    return (), ""


def _parse_addresses(texts: list[str], field: str) -> tuple[IpAddress, ...]:
    fields = [f"{field}[{index}]" if len(texts) > 1 else field for index in range(len(texts))]
    found = {
        parse_address(text.strip().partition("/")[0], where): where for text, where in zip(texts, fields, strict=True)
    }
    check_addresses(tuple(found), next(reversed(found.values())))
    return tuple(sorted(found, key=Family.of))


def _ranges(runtime: Fields) -> tuple[AddressRange, ...]:
    """Return the ranges in the capability `ipRanges`, an array of sets of ranges of either family."""
    sets = runtime.items("ipRanges") if runtime.has("ipRanges") else []
    found: list[AddressRange] = []
    for index, ranges in enumerate(sets):
        path = f"{runtime.at('ipRanges')}[{index}]"
        if not isinstance(ranges, list):
            raise InvalidValue(f"expected an array, not {quoted(ranges)}", field=path)
        found += (_range(Fields(each, f"{path}[{number}]")) for number, each in enumerate(ranges))
    if len(found) > RANGES_MAX:
        raise InvalidValue(f"{len(found)} ranges are more than {RANGES_MAX}", field=runtime.at("ipRanges"))
    return tuple(found)


def _range(fields: Fields) -> AddressRange:
    subnet = parse_cidr(fields.text("subnet"), fields.at("subnet"))
    first, last = subnet.network_address, subnet.broadcast_address
    for name in ("rangeStart", "rangeEnd"):
        if not fields.has(name):
            continue
        given = fields.address(name)
        if given not in subnet:
            raise InvalidValue(f"{given} is not in {subnet}", field=fields.at(name))
        first, last = (given, last) if name == "rangeStart" else (first, given)
    if int(first) > int(last):
        raise InvalidValue(f"{last} comes before {first}", field=fields.at("rangeEnd"))
    if fields.has("gateway"):
        raise unsupported(fields.text("gateway"), fields.at("gateway"), "the network has its own gateway")
    return AddressRange(first, last)


def _reservations(
    ours: Fields | None, requested: Fields, annotations: Fields | None
) -> tuple[tuple[ReservationName, ...], str]:
    """Return the names of the requested reservations, a list with commas, and the field that has it."""
    for place, name in ((ours, "reservation"), (requested, "RESERVATION"), (annotations, f"{_OURS}reservation")):
        if place and place.has(name):
            named = dict.fromkeys(place.text(name).split(","))
            return tuple(ids.reservation_name(each, place.at(name)) for each in named), place.at(name)
    return (), ""


def _mac(runtime: Fields | None, requested: Fields, annotations: Fields | None) -> tuple[MacAddress | None, str]:
    """Return the requested MAC and the field that has it. An empty string in the config asks for none."""
    if runtime and runtime.has("mac") and runtime.text("mac"):
        return ids.workload_mac(runtime.text("mac"), runtime.at("mac")), runtime.at("mac")
    for place, name in ((requested, "MAC"), (annotations, f"{_OURS}mac")):
        if place and place.has(name):
            return ids.workload_mac(place.text(name), place.at(name)), place.at(name)
    return None, ""


def _dns(config: Fields, runtime: Fields | None) -> Json:
    """Return the capability `dns` with the field names that results have, or else the config's `dns` unchanged."""
    given = _inside(runtime, "dns") if runtime else None
    if given is not None:
        names = (("servers", "nameservers"), ("searches", "search"), ("options", "options"))
        lists: dict[str, Json] = {theirs: [*given.texts(ours)] for ours, theirs in names if given.has(ours)}
        if any(lists.values()):
            return lists
    return config.object("dns").value if config.has("dns") else None


def _aliases(config: Fields, runtime: Fields | None) -> tuple[str, ...]:
    """Return the capability `aliases`: an array, or from podman an object with an array for each network."""
    if not (runtime and runtime.has("aliases")):
        return ()
    if not isinstance(runtime.value["aliases"], dict):
        return tuple(runtime.texts("aliases"))
    networks, name = runtime.object("aliases"), config.text("name")
    return tuple(networks.texts(name)) if networks.has(name) else ()


def _workload(requested: Fields, conventional: Fields | None, aliases: tuple[str, ...]) -> Workload:
    labels = conventional.objects("labels") if conventional and conventional.has("labels") else []
    job = {label: _ascii(requested.text(name)) for name, label in _NOMAD.items() if requested.has(name)}
    known = {**job, **{each.text("key"): each.text("value") for each in labels}}
    name = "-".join(job[label] for label in ("nomad.job", "nomad.group") if label in job)[:TEXT_MAX]
    return _named(
        lambda: Workload(_pod(requested), tuple(sorted(known.items())), aliases, name=name),
        {"labels": "args.cni.labels", "aliases": "runtimeConfig.aliases"},
    )


def _ascii(text: str) -> str:
    """Return a name of Nomad's, which may have any characters, as a label can hold it."""
    printable = "".join(each if each.isprintable() else "?" for each in text)
    return printable.encode("ascii", "backslashreplace").decode()[:TEXT_MAX]


def _pod(requested: Fields) -> Pod | None:
    given = {field: requested.text(name) for name, field in _POD.items() if requested.has(name)}
    names = {field: requested.at(name) for name, field in _POD.items()}
    return _named(lambda: Pod(**given), names) if any(given.values()) else None


def _named(make: Callable[[], T], names: Mapping[str, str]) -> T:
    """Construct a value of the model; rename the fields in its errors to those of the request."""
    try:
        return make()
    except InvalidValue as error:
        raise InvalidValue(error.detail, field=names.get(error.field or "", error.field)) from None


def _inside(fields: Fields, name: str) -> Fields | None:
    return fields.object(name) if fields.has(name) else None
