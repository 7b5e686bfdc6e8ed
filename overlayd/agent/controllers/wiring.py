"""Builds the parts of this room."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from overlayd.agent.controllers.claims import Claims
from overlayd.agent.controllers.client import ControllerClient, Controllers
from overlayd.agent.controllers.cluster_cache import ClusterCache, ClusterCacheWriter, KeptCluster
from overlayd.agent.controllers.credential import Credential, load_identity
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.controllers.own_address import OwnAddress
from overlayd.agent.runtime.actors import Actors
from overlayd.agent.runtime.signals import Changes
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import HostId


@dataclass(frozen=True, slots=True)
class ControllerParts:
    """The feed and two clients: `feed_client` serves what follows the feed's controller, `client` everything else."""

    host: HostId
    feed: ClusterFeed
    feed_client: ControllerClient
    client: ControllerClient
    claims: Claims
    cache: ClusterCacheWriter

    def actors(self, name: str, address: OwnAddress, underlay: Changes, interval: float, attached: Changes) -> Actors:
        """Return the actors of this room.

        The host has this display name. `underlay` counts changes that may give it another address, which is checked
        every `interval` seconds too; `attached` counts attachments that came or went.
        """
        feed = self.feed
        return {
            "feed": feed.run(name, address.current),
            "own address": address.follow(underlay, interval, feed, (self.feed_client, self.client)),
            "cache": self.cache.run(),
            "claims": self.claims.run(lambda: feed.cluster, feed.changes, attached),
        }


def build(
    urls: Sequence[str],
    credential: Credential | None,
    state_dir: Path,
    endpoints: Callable[[], Collection[Endpoint]],
    closing: AsyncExitStack,
) -> ControllerParts:
    """Read this host's identity and the cached cluster, and make the clients, which `closing` closes.

    `endpoints` returns those of this host. Raises `InvalidValue` that names a damaged file, or `OSError`.
    """
    identity = load_identity(state_dir)
    controllers = Controllers.for_host(urls, identity.id)
    feed_client, client = (ControllerClient(controllers, identity, credential) for _ in range(2))
    for each in (feed_client, client):
        closing.push_async_callback(each.close)
    kept = KeptCluster(state_dir)
    claims = Claims(feed_client, endpoints, kept.load(), kept.save)
    cached = ClusterCache(state_dir)
    feed = ClusterFeed(feed_client, cached.of_host(identity.id), claims)
    cache = ClusterCacheWriter(cached, feed)
    closing.callback(cache.finish)
    return ControllerParts(identity.id, feed, feed_client, client, claims, cache)
