"""Messages: what is written is read back the same, and nothing that comes in raises anything but the error for it."""

import json
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from overlayd.model.block import Block
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.endpoint import Endpoint, Pod, Workload
from overlayd.model.errors import InvalidValue, OverlayError
from overlayd.model.host import Host, HostState
from overlayd.model.ids import (
    ContainerId,
    HostId,
    HostNumber,
    InterfaceName,
    MacAddress,
    NetworkName,
    ReservationName,
    Revision,
    Vni,
)
from overlayd.model.network import Network, NetworkState, Pool, Topology
from overlayd.model.reservation import Holder, Reservation
from overlayd.wire import problem, records, workload
from overlayd.wire.cni import error as cni_error
from overlayd.wire.cni import requests as cni
from overlayd.wire.cni import result as cni_result
from overlayd.wire.cni import version as cni_version
from overlayd.wire.cni.error import CniError, Code
from overlayd.wire.cni.result import Result
from overlayd.wire.feed import Bookmark, Delta, FeedMessage, InSync, Snapshot, decode_line, encode_line
from overlayd.wire.fields import Fields, Json

ANY_TEXT = st.text(st.characters())
"""Surrogates included: JSON can spell them."""


def names(limit: int) -> st.SearchStrategy[str]:
    return st.from_regex(rf"\A[A-Za-z0-9][A-Za-z0-9_.-]{{0,{limit - 1}}}\Z")


NETWORK_NAMES = names(63).map(NetworkName)
HOST_IDS = names(63).map(HostId)
CONTAINER_IDS = names(128).map(ContainerId)
INTERFACES = st.from_regex(r"\A[a-zA-Z0-9@+_-]{1,15}\Z").map(InterfaceName)
UNDERLAY = st.ip_addresses(v=4, network="192.0.0.0/9")
OVERLAY = st.ip_addresses(v=4)
MACS = st.integers(1, 2**40 - 1).map(lambda low: MacAddress((0x02 << 40 | low).to_bytes(6, "big").hex(":")))
CIDRS = st.one_of(
    st.builds(lambda address, length: IPv4Network((address, length), strict=False), OVERLAY, st.integers(0, 32)),
    st.builds(
        lambda address, length: IPv6Network((address, length), strict=False), st.ip_addresses(v=6), st.integers(0, 128)
    ),
)
ADDRESSES = st.one_of(st.tuples(OVERLAY), st.tuples(st.ip_addresses(v=6)), st.tuples(OVERLAY, st.ip_addresses(v=6)))
REVISIONS = st.integers(0, 2**63).map(Revision)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    length = draw(st.integers(8, 29))
    address = IPv4Address(int(IPv4Address("10.0.0.0")) + draw(st.integers(0, 2**24 - 1)))
    return Pool(IPv4Network((address, length), strict=False), draw(st.integers(length, 29)))


NETWORKS = st.builds(
    Network,
    NETWORK_NAMES,
    st.integers(1, 2**24 - 1).map(Vni),
    st.sampled_from(Topology),
    st.tuples(pools()),
    st.sampled_from(NetworkState),
)
HOSTS = st.builds(
    Host,
    HOST_IDS,
    st.integers(1, 64_000).map(HostNumber),
    ANY_TEXT.filter(str.isprintable).filter(bool),
    UNDERLAY,
    st.sampled_from(HostState),
)
BLOCKS = st.builds(Block, NETWORK_NAMES, CIDRS, HOST_IDS)
ENDPOINTS = st.builds(Endpoint, NETWORK_NAMES, CONTAINER_IDS, INTERFACES, HOST_IDS, ADDRESSES, MACS, ANY_TEXT)
RESERVATIONS = st.builds(
    Reservation,
    NETWORK_NAMES,
    names(63).map(ReservationName),
    ADDRESSES,
    st.none() | MACS,
    st.none() | st.builds(Holder, HOST_IDS, CONTAINER_IDS, INTERFACES),
)
RECORDS: st.SearchStrategy[Record] = st.one_of(NETWORKS, HOSTS, BLOCKS, ENDPOINTS, RESERVATIONS)
PUTS = st.lists(RECORDS, max_size=4).map(tuple)
KEYS = st.lists(RECORDS.map(RecordKey.of), max_size=4).map(tuple)
MESSAGES: st.SearchStrategy[FeedMessage] = st.one_of(
    st.builds(Snapshot, REVISIONS, PUTS),
    st.builds(Delta, REVISIONS, PUTS, KEYS),
    st.builds(InSync, REVISIONS),
    st.builds(Bookmark, REVISIONS),
)

ANY_JSON: st.SearchStrategy[Json] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), ANY_TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(ANY_TEXT, inner, max_size=3)),
    max_leaves=5,
)


@st.composite
def damaged(draw: st.DrawFn, form: Json) -> Json:
    """A JSON document of which one part, at any depth, is another one or gone."""
    if isinstance(form, dict) and form and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(form)))
        rest = {other: value for other, value in form.items() if other != name}
        return rest if draw(st.integers(0, 5)) == 0 else {**rest, name: draw(damaged(form[name]))}
    if isinstance(form, list) and form and draw(st.integers(0, 4)):
        index = draw(st.integers(0, len(form) - 1))
        return [*form[:index], draw(damaged(form[index])), *form[index + 1 :]]
    return draw(ANY_JSON)


@given(RECORDS)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    form: Json = json.loads(json.dumps(records.encode_tagged(record)))
    assert records.decode_tagged(Fields(form)) == record


@given(RECORDS.map(RecordKey.of))
def test_a_key_is_read_as_it_was_written(key: RecordKey) -> None:
    form: Json = json.loads(json.dumps(records.encode_key(key)))
    assert records.decode_key(Fields(form)) == key


@given(MESSAGES)
def test_a_message_is_one_line_and_is_read_as_it_was_written(message: FeedMessage) -> None:
    line = encode_line(message)
    assert line.decode("ascii").splitlines(keepends=True) == [line.decode("ascii")]
    assert decode_line(line) == message


@given(MESSAGES.flatmap(lambda message: damaged(json.loads(encode_line(message)))))
def test_a_damaged_message_is_read_or_refused(form: Json) -> None:
    with suppress(InvalidValue):
        # What is taken is valid: it can be sent on, and is read the same.
        message = decode_line(json.dumps(form).encode())
        assert decode_line(encode_line(message)) == message


@given(RECORDS.flatmap(lambda record: damaged(records.encode_tagged(record))))
def test_a_damaged_record_is_read_or_refused_with_its_path(form: Json) -> None:
    path = "puts[0]"
    try:
        records.decode_tagged(Fields(form, path))
    except InvalidValue as error:
        path = error.field or ""
    assert path.startswith("puts[0]")
    assert path.count("puts") == 1


@given(st.binary() | ANY_JSON.map(lambda form: json.dumps(form).encode()))
def test_arbitrary_bytes_are_no_message(line: bytes) -> None:
    with suppress(InvalidValue):
        decode_line(line)


@given(st.integers(), st.binary() | ANY_JSON.map(lambda form: json.dumps(form).encode()))
def test_arbitrary_bytes_make_a_problem(status: int, body: bytes) -> None:
    assert isinstance(problem.decode(status, body), OverlayError)


VARIABLES = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH", "PATH")
COMMANDS = [str(command) for command in cni.Command]
VALID_VALUES = (*COMMANDS, "c1", "eth0", "/run/netns/c1", "IP=10.32.0.5;MAC=02:00:00:00:00:01", "/opt/cni/bin")
VALID_ENVIRONMENT = {
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
}
VALID_CONFIG: dict[str, Json] = {
    "cniVersion": "1.0.0",
    "name": "blue",
    "network": "blue",
    "dns": {},
    "ipMasq": True,
    "args": {"cni": {"ips": ["10.32.0.5"], "labels": [{"key": "app", "value": "web"}]}},
    "runtimeConfig": {
        "ips": ["10.32.0.5/16"],
        "mac": "02:00:00:00:00:01",
        "dns": {"servers": ["192.0.2.53"]},
        "aliases": ["www"],
        "ipRanges": [[{"subnet": "10.32.0.0/24", "rangeStart": "10.32.0.5"}]],
        "portMappings": [{"hostPort": 8080, "containerPort": 80}],
        "bandwidth": {"ingressRate": 1000000, "ingressBurst": 80000},
    },
    "prevResult": {
        "interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1", "mac": "02:00:00:00:00:01", "mtu": 1450}],
        "ips": [{"address": "10.32.0.5/16", "interface": 0}, {"address": "fd00::5/64"}],
        "routes": [{"dst": "0.0.0.0/0"}],
    },
    cni.VALID_ATTACHMENTS: [{"containerID": "c1", "ifname": "eth0"}],
}
VALID_CONFIG_1_1: Json = VALID_CONFIG | {"cniVersion": "1.1.0"}
ENVIRONMENTS = st.one_of(
    st.dictionaries(st.sampled_from(VARIABLES), ANY_TEXT | st.sampled_from(VALID_VALUES)),
    st.builds(
        lambda command, changes: {"CNI_COMMAND": command, **VALID_ENVIRONMENT, **changes},
        st.sampled_from(COMMANDS),
        st.dictionaries(st.sampled_from(VARIABLES), ANY_TEXT, max_size=1),
    ),
)
STDINS = st.one_of(
    st.binary(),
    ANY_JSON.map(lambda form: json.dumps(form).encode()),
    damaged(VALID_CONFIG).map(lambda form: json.dumps(form).encode()),
    damaged(VALID_CONFIG_1_1).map(lambda form: json.dumps(form).encode()),
)


@given(ENVIRONMENTS, STDINS)
def test_any_request_is_read_or_refused_as_cni_wants_it(environment: dict[str, str], stdin: bytes) -> None:
    try:
        request = cni.parse(environment, stdin)
    except CniError as error:
        answer = json.loads(cni_error.render(cni.version_of(stdin), error))
        assert answer["code"] in set(Code)
        assert answer["msg"]
    else:
        assert request.version in cni_version.SUPPORTED
        if isinstance(request, cni.Request):
            passes_on(request)


def passes_on(request: cni.Request) -> None:
    """Check that the plugin after us could read what we make of what the one before us made."""
    ours = Result(request.interface, MacAddress("02:00:00:00:00:01"), "/run/netns/c1", 1450, (), ())
    answer = json.loads(cni_result.render(request.version, replace(ours, previous=request.previous)))
    if cni_version.is_since(request.version, cni_version.INTERFACES):
        parsed = cni_result.parse_previous(Fields(answer))
        assert parsed.addresses == request.previous.addresses
        assert len(parsed.interfaces) == len(request.previous.interfaces) + 1


@given(st.binary())
def test_any_frame_is_read_or_refused(frame: bytes) -> None:
    with suppress(CniError):
        environment, stdin = cni.unpack(frame)
        assert frame.endswith(stdin)
        assert not any("\0" in name + value for name, value in environment.items())


VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(st.dictionaries(st.sampled_from(VARIABLES), VALUES), st.binary())
def test_a_frame_is_read_as_the_launcher_writes_it(environment: dict[str, str], stdin: bytes) -> None:
    frame = "".join(f"{name}={value}\0" for name, value in environment.items()).encode() + b"\0" + stdin
    assert cni.unpack(frame) == (environment, stdin)


@given(ANY_TEXT)
def test_any_version_gets_an_answer(version: str) -> None:
    assert json.loads(cni.render_version(version))["supportedVersions"] == list(cni_version.SUPPORTED)
    error = CniError(Code.TRY_AGAIN_LATER, version, version)
    assert json.loads(cni_error.render(version, error))["code"] == Code.TRY_AGAIN_LATER


PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
LABELS = st.dictionaries(PRINTABLE.filter(bool), PRINTABLE, max_size=5)
WORKLOADS = st.builds(
    Workload,
    st.none() | st.builds(Pod, PRINTABLE, PRINTABLE, PRINTABLE, PRINTABLE),
    LABELS.map(lambda found: tuple(sorted(found.items()))),
    st.lists(PRINTABLE, max_size=5).map(tuple),
)


@given(WORKLOADS)
def test_what_stands_behind_an_endpoint_is_read_back(known: Workload) -> None:
    assert workload.decode(Fields(json.loads(json.dumps(workload.encode(known))))) == known
