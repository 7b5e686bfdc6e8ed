"""Attachments, detachments and checks at the same time, cut short, on a kernel that fails: no state is half made."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from overlayd.dataplane.desired.endpoint import host_end, resolve_endpoint
from overlayd.model.errors import OverlayError
from overlayd.model.published_port import PortMapping, TransportProtocol
from tests.support.agents.lone_host import BLUE, LoneHost, asked, named, sandbox_of
from tests.support.agents.virtual_time import VirtualTimeLoop

CONTAINERS = [f"c{number}" for number in range(8)]
"""More than there are addresses."""

SOME = st.lists(st.sampled_from(CONTAINERS), min_size=1, max_size=len(CONTAINERS))
ERRORS = (errno.EBUSY, errno.ENOBUFS, errno.EPERM, errno.EMFILE)
PORT = PortMapping(TransportProtocol.TCP, 8080, 80)


@dataclass
class Request:
    """A request, and whether it succeeded; it may fail with an error of the model, or be cut short."""

    kind: str
    container: str
    task: "asyncio.Future[bool]"

    @property
    def succeeded(self) -> bool:
        """Whether the runtime got this answer; any error but one of the model fails the test."""
        return not self.task.cancelled() and self.task.result()


async def succeeds(work: Callable[[], Awaitable[object]]) -> bool:
    """Do what a runtime asks for."""
    try:
        await work()
    except OverlayError:
        return False
    return True


class Host(RuleBasedStateMachine):
    """One host, whose runtime asks for several things at once."""

    @initialize(delays=st.lists(st.integers(0, 4), min_size=1, max_size=12))
    def start(self, delays: list[int]) -> None:
        turns = iter(range(1_000_000))
        self.directory = TemporaryDirectory()
        loop = VirtualTimeLoop(lambda: delays[next(turns) % len(delays)])
        self.host = LoneHost(Path(self.directory.name), loop)
        self.empty = self.host.kernel.observe(self.host.kernel.namespaces())
        self.requests: list[Request] = []
        self.is_hurt = False
        """Whether the kernel has failed since the last time that all was in order."""
        self.is_to_refuse = False
        """Whether the kernel has refused, or is to refuse, one operation since then."""
        self.lives = set[str]()
        self.attached = set[str]()
        """The containers that had a record then."""

    def begin(self, kind: str, container: str, work: Callable[[], Awaitable[object]]) -> None:
        self.requests.append(Request(kind, container, asyncio.ensure_future(succeeds(work), loop=self.host.loop)))

    @rule(containers=SOME, published=st.booleans())
    def add(self, containers: list[str], *, published: bool) -> None:
        for container in containers:
            if container not in self.lives:
                self.host.kernel.add_sandbox(sandbox_of(container))
                self.lives.add(container)
            request = replace(asked(container), ports=(PORT,)) if published else asked(container)
            self.begin("add", container, partial(self.host.attachments.attach, request))

    @rule(containers=SOME)
    def delete(self, containers: list[str]) -> None:
        for container in containers:
            self.begin("del", container, partial(self.host.attachments.detach, named(container), BLUE))

    @rule(container=st.sampled_from(CONTAINERS))
    def check(self, container: str) -> None:
        if attachment := self.host.attachments.find(named(container)):
            work = partial(self.host.attachments.check, attachment, sandbox_of(container), None)
            self.begin("check", container, work)

    @precondition(lambda self: any(not each.task.done() for each in self.requests))
    @rule(which=st.integers(0, 100))
    def cut_short(self, which: int) -> None:
        pending = [each for each in self.requests if not each.task.done()]
        pending[which % len(pending)].task.cancel()

    @precondition(lambda self: not self.is_to_refuse)
    @rule(code=st.sampled_from(ERRORS))
    def refuse_next_operation(self, code: int) -> None:
        self.host.kernel.fail_next(code)
        self.is_to_refuse = True

    @rule(code=st.sampled_from(ERRORS), passes=st.integers(1, 30))
    def fail_for_a_while(self, code: int, passes: int) -> None:
        """Let every call of the kernel fail for some passes of the loop."""
        self.host.kernel.failing = code
        self.is_hurt = True
        self.run_for(passes)
        self.host.kernel.failing = None

    @rule(container=st.sampled_from(CONTAINERS))
    def die(self, container: str) -> None:
        """End a container without a request."""
        if container in self.lives:
            self.host.kernel.remove_sandbox(sandbox_of(container))
            self.lives.discard(container)

    @rule(passes=st.integers(1, 25))
    def run_for(self, passes: int) -> None:
        async def passing() -> None:
            for _ in range(passes):
                await asyncio.sleep(0)

        self.host.run(passing())

    @rule(seconds=st.sampled_from([0.1, 3.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        self.host.run(asyncio.sleep(seconds))

    @rule()
    def come_to_rest(self) -> None:
        """Let all requests end and mend what a failing kernel left, as a runtime and the agent do; look at it all."""
        self.host.run(_ended([each.task for each in self.requests]))
        self.host.kernel.mend()
        for request in self.requests:
            # A runtime repeats a DEL that failed. Where every call failed, a failed ADD could not be undone either.
            if not request.succeeded and (request.kind == "del" or (request.kind == "add" and self.is_hurt)):
                self.host.run(self.host.attachments.detach(named(request.container), BLUE))
        if self.is_hurt:
            self.host.run(self.host.reconciler.cycle())
        self.host.run(asyncio.sleep(2.0))  # the reaper has been
        added = {each.container for each in self.requests if each.kind == "add" and each.succeeded}
        recorded = {str(each.container_id) for each in self.host.records.endpoints}
        assert recorded <= self.attached | added, "an ADD that fails leaves nothing"
        self.compare()
        self.requests.clear()
        self.is_hurt = self.is_to_refuse = False
        self.attached = recorded

    def compare(self) -> None:
        """Hold the kernel against the records: nothing is missing, and nothing is too much."""
        host, network = self.host, self.host.feed.cluster.networks[BLUE]
        alive = [each for each in host.records.endpoints if each.container_id in self.lives]
        for endpoint in alive:
            attachment = host.records.attachments[endpoint.key]
            if host.kernel.sandbox_id(endpoint.sandbox) == attachment.sandbox_id:
                assert not host.kernel.missing(resolve_endpoint(network, endpoint, host.reconciler.mtu))
        attached = {str(host_end(each.key)) for each in host.records.endpoints}
        assert host.devices() <= attached
        for container in self.lives - {each.container_id for each in host.records.endpoints}:
            assert host.inside(container) == {"lo"}

    @invariant()
    def no_address_is_given_twice(self) -> None:
        if hasattr(self, "host"):
            addresses = [address for each in self.host.records.endpoints for address in each.addresses]
            assert len(addresses) == len(set(addresses))

    def teardown(self) -> None:
        if not hasattr(self, "host"):
            return
        try:
            self.come_to_rest()
            for _ in range(2):  # a DEL may come again
                for container in CONTAINERS:
                    self.host.run(self.host.attachments.detach(named(container), BLUE))
            self.host.run(asyncio.sleep(2.0))
            self.host.run(self.host.reconciler.cycle())
            assert self.host.records.endpoints == ()
            assert self.host.kernel.observe(self.host.kernel.namespaces()) == self.empty
        finally:
            self.host.close()
            self.directory.cleanup()


async def _ended(tasks: "list[asyncio.Future[bool]]") -> None:
    if tasks:
        _, pending = await asyncio.wait(tasks, timeout=600)
        assert not pending, "every request comes to its end"


def test_no_order_of_requests_and_failures_leaves_anything_half_made() -> None:
    run_state_machine_as_test(Host, settings=settings(max_examples=40, stateful_step_count=25))
