"""Networks: creating, finding, amending and deleting them."""

from collections.abc import Callable, Collection
from dataclasses import replace

from controller.journal.actor import Requester
from controller.journal.journal import TransactionDraft, Written
from controller.rules import amendments
from controller.rules.free_choice import FreeChoice
from controller.rules.gateway_numbers import gateway_number
from controller.rules.wiring import RuleParts
from controller.state import keys
from controller.store.port import DeleteKey, PutKey, Unmodified
from overlayd.ipam.blocks import default_block_length
from overlayd.ipam.lifelines import Lifeline, Lifelines, of_hosts
from overlayd.model import ids
from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.errors import AlreadyExists, Exhausted, Forbidden, InUse, NotFound
from overlayd.model.ids import HostId, NetworkName, Revision, Vni
from overlayd.model.network import Network, NetworkState, Pool, Topology, Uplink, WantedNetwork


class Networks:
    """The networks of the cluster."""

    def __init__(self, rules: RuleParts, controller: Collection[IpAddress], host_networks: int) -> None:
        """`controller` are the addresses at which hosts reach this controller.

        `host_networks` is how many networks there may be that one host had made.
        """
        self._mirror = rules.mirror
        self._journal = rules.journal
        self._chance = rules.chance
        self._recovery = rules.recovery
        self._controller = controller
        self._host_networks = host_networks

    def all(self) -> Collection[Network]:
        return self._mirror.intent.networks.values()

    def get(self, name: NetworkName) -> Network:
        """Return a network; raise `NotFound`."""
        network = self._mirror.intent.networks.get(name)
        if network is None:
            raise NotFound(f"there is no network {ids.quoted(name)}", field="network")
        return network

    async def create(  # noqa: PLR0913, PLR0917 - what a network is made of
        self,
        by: Requester,
        name: NetworkName,
        pools: tuple[Pool, ...],
        topology: Topology,
        vni: Vni | None,
        reserved: tuple[IpNetwork, ...] = (),
        *,
        uplink: Uplink = Uplink.AUTO,
        egress: bool = True,
        ethertypes: tuple[int, ...] = (),
    ) -> Written[Network]:
        """Make a network with this VNI, with that which hosts use it by, or with the lowest free one.

        Raises `InvalidValue`, `AlreadyExists` (fields `name`, `vni`), `InUse` when hosts are to be members of a range
        that holds the address of a host or of this controller, `Exhausted`, or `Unavailable` while hosts have yet to
        say what they use.
        """
        choice = FreeChoice(self._chance)

        def draft() -> TransactionDraft[Network]:
            if existing := self._mirror.intent.networks.get(name):
                suffix = " and is being deleted" if existing.state is NetworkState.DELETING else ""
                raise AlreadyExists(f"network {name} exists{suffix}", field="name")
            self._recovery.refuse()
            number = self._vni(name, vni, choice)
            network = Network(
                name,
                number,
                topology,
                pools,
                reserved=reserved,
                uplink=uplink,
                egress=egress,
                ethertypes=ethertypes,
                gateway_number=gateway_number(self.all(), number),
            )
            self._check_members(network, network.pools)
            return self._making(network)

        return await self._journal.write(by, draft)

    async def create_for_host(self, by: Requester, host: HostId, wanted: WantedNetwork) -> Written[Network]:
        """Return the network that a host wants; make it where it is missing and the administrator lets hosts do that.

        Repeated, also by other hosts and at other controllers, it is the same network. Raises `AlreadyExists` (fields
        `name`, `vni`) when there is one that contradicts what is wanted, `NotFound` (field `host`), `Forbidden` when
        hosts may not make networks, `Exhausted` when this one has made as many as it may, or as `create` does.
        """
        choice = FreeChoice(self._chance)

        def draft() -> TransactionDraft[Network]:
            if existing := self._mirror.intent.networks.get(wanted.name):
                if existing.state is NetworkState.DELETING:
                    raise AlreadyExists(f"network {wanted.name} exists and is being deleted", field="name")
                if difference := wanted.contradiction(existing):
                    raise AlreadyExists(f"network {wanted.name} exists, and {difference}", field="name")
                return TransactionDraft(existing)
            self._check_host_may_make(host, wanted.name)
            self._recovery.refuse()
            number = self._vni(wanted.name, wanted.vni, choice)
            network = Network(
                wanted.name,
                number,
                wanted.topology or Topology.ROUTED,
                tuple(Pool(cidr, default_block_length(cidr)) for cidr in wanted.ranges),
                egress=wanted.egress is not False,
                gateway_number=gateway_number(self.all(), number),
                made_by=host,
            )
            # Another controller may be making one for the same host: then the count is looked at again.
            return self._making(network, Unmodified(keys.NETWORKS, self._mirror.revision))

        return await self._journal.write(by, draft)

    def _check_host_may_make(self, host: HostId, name: NetworkName) -> None:
        if host not in self._mirror.intent.hosts:
            raise NotFound(f"there is no host {ids.quoted(host)}", field="host")
        if not self._host_networks:
            raise Forbidden(
                f"there is no network {name}, and hosts may not make networks: an administrator makes it (overlayctl"
                " network create), or lets hosts make some (the controllers' setting host-networks)"
            )
        made = sorted(network.name for network in self.all() if network.made_by == host)
        if len(made) >= self._host_networks:
            raise Exhausted(
                f"host {host} has made {len(made)} networks, and may make {self._host_networks} (the controllers'"
                f" setting host-networks): an administrator makes network {name}, or deletes one, such as {made[0]}"
            )

    def _making(self, network: Network, *compares: Unmodified) -> TransactionDraft[Network]:
        key, claim = keys.network(network.name), keys.vni(network.vni)
        return TransactionDraft(
            network,
            (self._journal.unchanged(key), self._journal.unchanged(claim), *compares),
            (self._mirror.put(network), PutKey(claim, keys.claim(network.name))),
        )

    def _vni(self, name: NetworkName, wanted: Vni | None, choice: FreeChoice) -> Vni:
        return self._own_vni(name) or self._free_vni(choice) if wanted is None else self._wanted_vni(name, wanted)

    async def update(
        self,
        by: Requester,
        name: NetworkName,
        change: Callable[[Network], Network],
        expected: Revision | None = None,
    ) -> Written[Network]:
        """Amend a network: pools come while it is in use and go when they are empty, and so do reserved ranges.

        Uplink, egress and EtherTypes change at any time.

        `change` returns the amended network, and is called again after a conflict; `expected` is the modification
        revision of the network that the caller saw. Raises `NotFound`, `Stale`, `InvalidValue` for what never changes,
        or `InUse` when the network is being deleted, when a host has something in what would go, or when hosts would
        become members of a range that holds the address of a host or of this controller.
        """

        def draft() -> TransactionDraft[Network]:
            found, key = self.get(name), keys.network(name)
            self._journal.expect(key, expected)
            amended = change(found)
            amendments.check_fields(found, amended)
            if amended == found:
                return TransactionDraft(found)
            if found.state is NetworkState.DELETING:
                raise InUse(f"network {name} is being deleted", field="name")
            kept = found.pools if amended.uplink is found.uplink else ()
            self._check_members(amended, tuple(pool for pool in amended.pools if pool not in kept))
            amendments.check_holdings(self._mirror.intent, self._mirror.occupancy.space(name), found, amended)
            return TransactionDraft(
                amended,
                (self._journal.unchanged(key), *self._no_new_holdings(found, amended)),
                (self._mirror.put(amended),),
            )

        await self._journal.reach(expected)
        return await self._journal.write(by, draft)

    def warnings(self, network: Network) -> tuple[str, ...]:
        """Return the problems that hosts will report of a network, as far as this controller knows them."""
        if network.uplink not in {Uplink.AUTO, Uplink.HOST}:
            return ()
        found = self._lifelines().conflicts(network)
        return tuple(f"hosts keep network {network.name} isolated, as {conflict}" for conflict in found)

    def _check_members(self, network: Network, pools: Collection[Pool]) -> None:
        """Raise `InUse` when hosts are to be members of one of these ranges of a network and cannot be.

        A network with the uplink `auto` they isolate by themselves, as they do when such an address appears later.
        """
        if network.uplink is not Uplink.HOST or not pools:
            return
        for conflict in self._lifelines().conflicts(replace(network, pools=tuple(pools))):
            place = next(index for index, pool in enumerate(network.pools) if pool.range == conflict.range)
            raise InUse(
                f"hosts cannot be members of network {network.name}, as {conflict}: choose another range, or the uplink"
                " isolated",
                field=f"pools[{place}].range",
            )

    def _lifelines(self) -> Lifelines:
        own = (Lifeline(address, "this controller's address") for address in self._controller)
        return Lifelines([*of_hosts(self._mirror.intent.hosts.values()), *own])

    def _no_new_holdings(self, before: Network, after: Network) -> tuple[Unmodified, ...]:
        """Return the compares that hold while nothing is given out from the ranges that an amendment removes.

        A transaction that gives something out compares the network too, but notices only amendments before it.
        """
        prefixes = set[Callable[[NetworkName], str]]()
        if amendments.removed_pools(before, after):
            prefixes |= {keys.blocks_of, keys.addresses_of, keys.withheld_of, keys.resting_of}
        if amendments.newly_reserved(before, after):
            prefixes.add(keys.blocks_of)
        if amendments.newly_reserved(after, before):
            prefixes |= {keys.addresses_of, keys.withheld_of}
        return tuple(Unmodified(prefix(before.name), self._mirror.revision) for prefix in prefixes)

    async def delete(
        self, by: Requester, name: NetworkName, expected: Revision | None = None
    ) -> Written[Network | None]:
        """Remove a network that no host takes part in, else ask its hosts to leave it.

        Returns None when it is gone, else the network in state DELETING; the release of its last block removes it.
        Raises `NotFound`, `Stale`, or `InUse` while endpoints are published or reservations exist.
        """

        def draft() -> TransactionDraft[Network | None]:
            network = self.get(name)
            self._journal.expect(keys.network(name), expected)
            if network.state is NetworkState.DELETING:
                return TransactionDraft(network)
            intent, since = self._mirror.intent, self._mirror.revision
            if endpoints := intent.endpoints_in(name):
                example = next(iter(endpoints))
                raise InUse(f"network {name} has {len(endpoints)} endpoints, one of them on host {example.host}")
            if reservation := next(iter(intent.reservations_in(name)), None):
                raise InUse(f"network {name} has reservations, one of them is {reservation.name}")
            key = keys.network(name)
            unchanged = (
                self._journal.unchanged(key),
                Unmodified(keys.endpoints_of(name), since),
                Unmodified(keys.reservations_of(name), since),
                Unmodified(keys.blocks_of(name), since),
            )
            block = next(iter(intent.blocks_in(name)), None)
            if block is None:
                return TransactionDraft(None, unchanged, (DeleteKey(key), DeleteKey(keys.vni(network.vni))))
            # One block that is still there when this commits: a DELETING network always has a block, and so always has
            # a host whose release removes it.
            witness = self._journal.unchanged(keys.of(block))
            deleting = replace(network, state=NetworkState.DELETING)
            return TransactionDraft(deleting, (*unchanged, witness), (self._mirror.put(deleting),))

        await self._journal.reach(expected)
        return await self._journal.write(by, draft)

    def _free_vni(self, choice: FreeChoice) -> Vni:
        choice.attempt()
        taken = {int(number) for number in self._journal.underway(keys.VNIS)}
        number = choice.among(number for number in self._mirror.occupancy.vnis if number not in taken)
        if number is None:
            raise Exhausted("no VNI is free", field="vni")
        return Vni(number)

    def _own_vni(self, name: NetworkName) -> Vni | None:
        """Return the VNI by which hosts use a network of this name, which the store has lost."""
        claimants = self._mirror.occupancy.space(name).claimants.values()
        free = (each.vni for each in claimants if all(network.vni != each.vni for network in self.all()))
        return next(free, None)

    def _wanted_vni(self, name: NetworkName, vni: Vni) -> Vni:
        holder = next((network.name for network in self.all() if network.vni == vni), None)
        if holder:
            raise AlreadyExists(f"VNI {vni} belongs to network {holder}", field="vni")
        for other, _, claimant in self._mirror.occupancy.claimed:
            if claimant.vni == vni and other != name:
                raise AlreadyExists(
                    f"host {claimant.host} uses VNI {vni} for network {other}, which the store has lost", field="vni"
                )
        return ids.vni(vni)
