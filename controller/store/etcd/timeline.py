"""Whether etcd still is the one that it was: no cluster goes back behind a revision that it has answered before.

One that does was restored from a backup. So was one whose id is another, or it never was this one.
"""

import asyncio

from google.protobuf.message import Message

from controller.store.etcd import rpc_pb2 as rpc
from controller.store.port import Replaced


class Timeline:
    """What the answers of one cluster have shown of it, since the store was opened."""

    def __init__(self) -> None:
        self.revision = 0
        self._cluster = 0
        self._reason: str | None = None
        self._replaced = asyncio.Event()

    @property
    def cluster(self) -> str:
        """The cluster's id, as etcdctl prints it; "" before the first answer."""
        return f"{self._cluster:x}" if self._cluster else ""

    def check(self) -> None:
        """Raise `Replaced` once the cluster was found to be another one."""
        if self._reason:
            raise Replaced(self._reason)

    async def end(self) -> None:
        """Wait until the cluster is found to be another one, and raise `Replaced`."""
        await self._replaced.wait()
        self.check()

    def take(self, endpoint: str, answer: Message, known: int) -> None:
        """Check an answer to a request that was sent when `known` was the latest revision; raise `Replaced`.

        Answers to reads and transactions come through the cluster's log: none is older than what was answered before
        the question. Those of leases and watches may be, for one member knows less than another.
        """
        if isinstance(answer, rpc.RangeResponse | rpc.TxnResponse | rpc.WatchResponse):
            self._take_cluster(endpoint, answer.header.cluster_id)
        if isinstance(answer, rpc.RangeResponse | rpc.TxnResponse):
            if answer.header.revision < known:
                self._refuse(
                    f"etcd at {endpoint} is at revision {answer.header.revision}, and was at {known}:"
                    " it was restored from a backup"
                )
            self.revision = max(self.revision, answer.header.revision)

    def _take_cluster(self, endpoint: str, cluster: int) -> None:
        if self._cluster and cluster and cluster != self._cluster:
            self._refuse(f"etcd at {endpoint} is cluster {cluster:x}, and was {self._cluster:x}")
        self._cluster = self._cluster or cluster

    def _refuse(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._replaced.set()
        self.check()
