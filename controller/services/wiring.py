"""Builds the parts of this room."""

from collections.abc import Collection
from dataclasses import dataclass

from controller.actors import Actors
from controller.clock import Clock
from controller.rules.wiring import RuleParts
from controller.services.blocks import Blocks
from controller.services.departures import Departures
from controller.services.endpoint_sets import EndpointSets
from controller.services.endpoints import Endpoints
from controller.services.hosts import Hosts
from controller.services.networks import Networks
from controller.services.reservations import Reservations
from controller.services.sessions import Sessions
from controller.services.statements import Statements
from controller.services.tokens import Tokens
from overlayd.model.address import IpAddress


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """The nouns that the API changes."""

    tokens: Tokens
    sessions: Sessions
    departures: Departures
    networks: Networks
    hosts: Hosts
    blocks: Blocks
    reservations: Reservations
    statements: Statements
    endpoints: Endpoints
    endpoint_sets: EndpointSets
    clock: Clock

    def actors(self) -> Actors:
        """Return the tasks of this room, which run until the controller stops."""
        return {
            "sessions": self.sessions.run(),
            "endpoint sets": self.endpoint_sets.run(),
            "departures": self.departures.run(self.clock),
            "statements": self.statements.run(self.clock),
        }


def build(rules: RuleParts, addresses: Collection[IpAddress], host_networks: int, host_blocks: int) -> ServiceParts:
    """Make the services; hosts reach this controller at `addresses`.

    Each host may make `host_networks` networks, and hold `host_blocks` blocks of a family in one network.
    """
    tokens = Tokens(rules)
    departures = Departures(rules, tokens)
    networks, hosts = Networks(rules, addresses, host_networks), Hosts(rules, departures)
    reservations = Reservations(rules, networks, hosts)
    return ServiceParts(
        tokens,
        Sessions(tokens, rules.clock),
        departures,
        networks,
        hosts,
        Blocks(rules, networks, hosts, host_blocks),
        reservations,
        Statements(rules, reservations),
        Endpoints(rules, hosts),
        EndpointSets(rules.clock),
        rules.clock,
    )
