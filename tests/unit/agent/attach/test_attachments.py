"""Attaching and detaching on one host: what is in force after the answer, and that a refusal leaves nothing."""

import asyncio
import errno
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest

from overlayd.agent.attach.request import AttachmentName
from overlayd.agent.records.attachment_records import Stray
from overlayd.dataplane.desired.endpoint import host_end, resolve_endpoint
from overlayd.dataplane.items import HOST, Link, NamespaceRef, network_namespace
from overlayd.kernel.port import KernelError
from overlayd.model.endpoint import Endpoint, Workload
from overlayd.model.errors import AlreadyExists, Exhausted, InUse, InvalidValue, NotFound, OverlayError
from overlayd.model.host import HostState
from overlayd.model.ids import NetworkName, Revision
from overlayd.model.published_port import PortMapping, TransportProtocol
from tests.support.agents.lone_host import BLUE, GREEN, LoneHost, asked, named, sandbox_of
from tests.support.controllers import clusters

WEB = asked("web")
PORT = PortMapping(TransportProtocol.TCP, 8080, 80)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LoneHost]:
    made = LoneHost(tmp_path)
    for container in ("web", "db"):
        made.kernel.add_sandbox(sandbox_of(container))
    yield made
    made.close()


def is_in_force(host: LoneHost, endpoint: Endpoint) -> bool:
    network = host.feed.cluster.networks[endpoint.network]
    return not host.kernel.missing(resolve_endpoint(network, endpoint, host.reconciler.mtu))


def has_nothing(host: LoneHost, container: str = "web") -> bool:
    """Tell whether nothing of a container is left once the reaper has been."""
    host.run(asyncio.sleep(1))
    return (host.records.endpoints, host.devices(), host.inside(container)) == ((), set(), {"lo"})


def test_an_answer_says_what_is_in_force(host: LoneHost) -> None:
    made = host.run(host.attachments.attach(WEB))
    (address,) = made.addresses
    assert address.interface == ip_interface("10.32.0.2/32")
    assert (made.mtu, made.endpoint.sandbox) == (host.reconciler.mtu, sandbox_of("web"))
    assert host.records.endpoints == (made.endpoint,)
    assert is_in_force(host, made.endpoint)
    assert host.attachments.changes.count == 1


def test_a_detached_interface_leaves_nothing_and_its_address_rests(host: LoneHost) -> None:
    first = host.run(host.attachments.attach(WEB))
    for _ in range(2):
        host.run(host.attachments.detach(named("web")))
    assert has_nothing(host)
    again = host.run(host.attachments.attach(WEB))
    assert set(again.endpoint.addresses).isdisjoint(first.endpoint.addresses)


@pytest.mark.parametrize(
    ("request_", "error", "field"),
    [
        (replace(WEB, sandbox="/run/netns/gone"), NotFound, "sandbox"),
        (replace(WEB, sandbox=HOST), InvalidValue, "sandbox"),
        (replace(WEB, needs_egress=True, name=named("web", GREEN)), InvalidValue, "needs_egress"),
        (replace(WEB, ports=(PORT,), name=named("web", GREEN)), InvalidValue, "ports"),
    ],
)
def test_what_cannot_be_attached_is_refused_with_the_field_at_fault(
    host: LoneHost, request_: object, error: type[OverlayError], field: str
) -> None:
    with pytest.raises(error) as refused:
        host.run(host.attachments.attach(request_))  # type: ignore[arg-type]
    assert refused.value.field == field
    assert has_nothing(host)


@pytest.mark.parametrize("network", [BLUE, GREEN])
def test_a_path_that_leads_to_a_networks_own_namespace_is_no_sandbox(host: LoneHost, network: NetworkName) -> None:
    host.kernel.alias_sandbox("/run/netns/alias", network_namespace(network))
    for sandbox in ("/run/netns/alias", network_namespace(network)):
        with pytest.raises(InvalidValue, match="is the namespace of a network") as refused:
            host.run(host.attachments.attach(replace(WEB, sandbox=sandbox)))
        assert refused.value.field == "sandbox"
    assert has_nothing(host)


def test_a_draining_host_takes_back_what_it_had_a_moment_ago_and_nothing_else(host: LoneHost) -> None:
    """As `podman network reload` does: it asks for the same address."""
    before = host.run(host.attachments.attach(WEB)).endpoint
    draining = replace(clusters.host(1), state=HostState.DRAINING)
    host.feed.cluster = host.feed.cluster.changed(Revision(host.feed.cluster.revision + 1), [draining])
    host.run(host.attachments.detach(named("web")))
    for stranger in (replace(WEB, sandbox=sandbox_of("db")), asked("db"), asked("web", GREEN)):
        with pytest.raises(InUse, match="is draining"):
            host.run(host.attachments.attach(stranger))
    again = host.run(host.attachments.attach(replace(WEB, addresses=before.addresses, mac=before.mac))).endpoint
    assert (again.addresses, again.mac) == (before.addresses, before.mac)
    forgetting = replace(draining, state=HostState.FORGETTING)
    host.feed.cluster = host.feed.cluster.changed(Revision(host.feed.cluster.revision + 1), [forgetting])
    host.run(host.attachments.detach(named("web")))
    with pytest.raises(InUse, match="is being forgotten"):
        host.run(host.attachments.attach(WEB))


def test_what_one_runtime_attached_no_other_one_finds_or_detaches(host: LoneHost) -> None:
    """Ids are a runtime's own: another one may call something else by the same."""
    theirs = replace(WEB, owner=None, workload=Workload(runtime="docker"))
    made = host.run(host.attachments.attach(theirs))
    host.run(host.attachments.detach(named("web")))
    assert host.attachments.find(named("web")) is None
    assert is_in_force(host, made.endpoint)
    assert AttachmentName.of(made.endpoint) == replace(named("web"), runtime="docker")
    host.run(host.attachments.detach(AttachmentName.of(made.endpoint)))
    assert has_nothing(host)


def test_one_interface_is_attached_once(host: LoneHost) -> None:
    made = host.run(host.attachments.attach(WEB))
    with pytest.raises(AlreadyExists) as refused:
        host.run(host.attachments.attach(WEB))
    assert refused.value.field == "interface"
    assert is_in_force(host, made.endpoint)


def test_a_sandbox_has_each_range_once(host: LoneHost) -> None:
    host.run(host.attachments.attach(WEB))
    with pytest.raises(InvalidValue, match="can be there once"):
        host.run(host.attachments.attach(asked("web", BLUE, "eth1")))
    other = host.run(host.attachments.attach(asked("web", GREEN, "eth1")))
    assert is_in_force(host, other.endpoint)


def test_a_port_is_its_holders_until_its_container_is_gone(host: LoneHost) -> None:
    host.run(host.attachments.attach(replace(WEB, ports=(PORT,))))
    second = replace(asked("db"), ports=(PORT,))
    with pytest.raises(AlreadyExists, match="published by web"):
        host.run(host.attachments.attach(second))
    host.kernel.remove_sandbox(sandbox_of("web"))
    made = host.run(host.attachments.attach(second))
    assert host.records.endpoints == (made.endpoint,), "what is gone was released for it"


@pytest.mark.parametrize("code", [errno.EBUSY, errno.ENOBUFS, errno.EPERM])
def test_what_the_kernel_refuses_leaves_nothing(host: LoneHost, code: int) -> None:
    host.kernel.fail_next(code)
    with pytest.raises(KernelError) as refused:
        host.run(host.attachments.attach(WEB))
    assert refused.value.errno == code
    assert has_nothing(host)
    assert is_in_force(host, host.run(host.attachments.attach(WEB)).endpoint)


def test_a_network_whose_name_cannot_be_read_keeps_no_other_attached(host: LoneHost) -> None:
    kept = host.run(host.attachments.attach(asked("db", GREEN)))
    host.run(host.attachments.attach(WEB))
    host.kernel.unreadable.add(network_namespace(GREEN))

    async def detach_together() -> list[object]:
        async with host.turn.taken_to_remove():
            names = (named("db", GREEN), named("web"))
            tasks = [asyncio.ensure_future(host.attachments.detach(name)) for name in names]
            await asyncio.sleep(0.1)
        return await asyncio.gather(*tasks, return_exceptions=True)

    refused, done = host.run(detach_together())
    assert isinstance(refused, KernelError)
    assert refused.errno == errno.EACCES
    assert done is None
    assert host.records.endpoints == (kept.endpoint,)
    host.kernel.unreadable.clear()
    host.run(host.attachments.detach(named("db", GREEN)))
    assert has_nothing(host, "db")


def test_a_full_host_refuses_and_gives_all_that_it_has(host: LoneHost) -> None:
    containers = [f"c{number}" for number in range(9)]
    for container in containers:
        host.kernel.add_sandbox(sandbox_of(container))

    async def attach_all() -> list[object]:
        return await asyncio.gather(
            *(host.attachments.attach(asked(each)) for each in containers), return_exceptions=True
        )

    refused = [each for each in host.run(attach_all()) if isinstance(each, BaseException)]
    assert {type(each) for each in refused} == {Exhausted}
    addresses = [address for each in host.records.endpoints for address in each.addresses]
    assert len(set(addresses)) == len(addresses) == len(containers) - len(refused)
    assert all(is_in_force(host, each) for each in host.records.endpoints)


def test_a_detachment_waits_for_the_attachment_that_its_runtime_gave_up(host: LoneHost) -> None:
    async def both() -> None:
        attaching = asyncio.ensure_future(host.attachments.attach(WEB))
        await asyncio.sleep(0)
        await host.attachments.detach(named("web"))
        assert attaching.done()

    host.run(both())
    assert has_nothing(host)


def test_what_an_owner_attached_to_the_network_that_it_named_before_goes_too(host: LoneHost) -> None:
    host.run(host.attachments.attach(replace(WEB, owner=BLUE)))
    host.run(host.attachments.detach(named("web", GREEN), GREEN))
    assert len(host.records.endpoints) == 1, "another owner's"
    host.run(host.attachments.detach(named("web", GREEN)))
    assert len(host.records.endpoints) == 1, "no owner has nothing elsewhere"
    host.run(host.attachments.detach(named("web", GREEN), BLUE))
    assert has_nothing(host)


def test_what_differs_from_an_attachment_is_named(host: LoneHost) -> None:
    endpoint = host.run(host.attachments.attach(WEB)).endpoint
    (attachment,) = host.records.attachments.values()
    assert host.attachments.find(named("web")) is attachment
    assert host.attachments.find(named("db")) is None

    def differences(sandbox: str = endpoint.sandbox) -> tuple[str, ...]:
        return host.run(host.attachments.check(attachment, sandbox, None))

    assert differences() == ()
    assert differences(sandbox_of("db")) == ("/run/netns/db is not the sandbox that was attached",)
    guard = next(
        item
        for item in resolve_endpoint(host.feed.cluster.networks[BLUE], endpoint, host.reconciler.mtu)
        if not isinstance(item, Link) and item.ns == NamespaceRef(endpoint.sandbox)
    )
    host.kernel.remove_by_hand(guard)
    (found,) = differences()
    assert found.startswith("missing or different: ip ")


def test_only_what_is_gone_is_released(host: LoneHost) -> None:
    host.run(host.attachments.attach(WEB))
    (attachment,) = host.records.attachments.values()
    assert host.run(host.attachments.gone([attachment])) == []
    assert not host.run(host.attachments.release(attachment))
    host.kernel.remove_sandbox(sandbox_of("web"))
    assert host.run(host.attachments.gone([attachment])) == [attachment]
    assert host.run(host.attachments.release(attachment))
    assert not host.run(host.attachments.release(attachment)), "it is no longer recorded"
    assert host.records.endpoints == ()


def test_the_interface_of_a_lost_record_goes_by_its_name(host: LoneHost) -> None:
    endpoint = host.run(host.attachments.attach(WEB)).endpoint
    host.records.remove(endpoint.key)
    assert host.kernel.has_device(network_namespace(BLUE), host_end(endpoint.key))
    host.records.withhold(Stray(BLUE, host_end(endpoint.key), frozenset(endpoint.addresses)))
    host.run(host.attachments.detach(named("web")))
    assert (host.records.strays, host.devices()) == (frozenset(), set())
