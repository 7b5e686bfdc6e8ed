"""What a controller counts and measures, in the text format of Prometheus."""

import time
from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.health import capacity
from controller.journal.transaction_meter import BUCKETS
from controller.overlay import Overlay
from overlayd.model.host import HostState

router = APIRouter(tags=["status"])

_STREAMS = frozenset({"/v1/feed", "/v1/watch"})
"""Routes whose requests last: how long says nothing."""


class Metrics:
    """The figures of one controller."""

    def __init__(self, overlay: Overlay) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when a series began is its first sample
        self.registry = CollectorRegistry()
        self.registry.register(OverlayCollector(overlay))
        self.requests = Counter(
            "overlay_requests", "Requests by route and status.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "overlay_request_seconds",
            "Duration of requests, without streams.",
            ("method", "route"),
            buckets=BUCKETS,
            registry=self.registry,
        )


class OverlayCollector(Collector):
    """Reads the figures of the overlay at each scrape."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay

    def collect(self) -> Iterator[Metric]:
        """Yield every figure as of now."""
        mirror, intent = self._overlay.mirror, self._overlay.mirror.intent
        yield _gauge("overlay_revision", "The revision of the store that this controller has reached.", mirror.revision)
        yield _gauge("overlay_intent_revision", "The revision that changed a record last.", mirror.intent_revision)
        yield _gauge("overlay_networks", "Networks.", len(intent.networks))
        yield _gauge("overlay_blocks", "Blocks that hosts own.", len(intent.blocks()))
        yield _gauge("overlay_endpoints", "Endpoints that hosts have published.", len(intent.endpoints()))
        yield _gauge("overlay_reservations", "Reservations.", len(intent.reservations()))
        yield _gauge("overlay_feeds_open", "Feeds that are open at this controller.", self._overlay.feeds.number)
        yield _gauge("overlay_watches_open", "Watches that are open at this controller.", self._overlay.watches.number)
        yield from self._hosts()
        yield from self._pools()
        yield from self._store()

    def _hosts(self) -> Iterator[Metric]:
        found = self._overlay.statuses.convergence(None, None)
        hosts = GaugeMetricFamily("overlay_hosts", "Hosts by state.", labels=["state"])
        for state in HostState:
            hosts.add_metric([state], sum(host.state is state for host in self._overlay.hosts.all()))
        yield hosts
        connected = sum(status.presence is not None for status, _ in found.lags)
        yield _gauge("overlay_hosts_connected", "Hosts with an open feed, at any controller.", connected)
        yield _gauge("overlay_hosts_in_force", "Hosts whose kernel matches the latest revision.", found.in_force)

    def _pools(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "overlay_pool_blocks", "Blocks of each range by their state.", labels=["network", "range", "state"]
        )
        for network in self._overlay.networks.all():
            for pool in capacity.of_network(self._overlay.mirror, network).pools:
                for state in ("used", "quarantined", "withheld", "reserved", "free"):
                    family.add_metric([network.name, str(pool.range), state], getattr(pool, state))
        yield family

    def _store(self) -> Iterator[Metric]:
        outcomes = CounterMetricFamily("overlay_store_commits", "Transactions by outcome.", labels=["outcome"])
        for outcome, number in self._overlay.commits.outcomes.items():
            outcomes.add_metric([outcome], number)
        yield outcomes
        seconds = HistogramMetricFamily("overlay_store_commit_seconds", "Duration of transactions in the store.")
        seconds.add_metric([], [*self._overlay.commits.cumulative()], self._overlay.commits.seconds)
        yield seconds
        about = "Whether the store takes writes: 1, or 0 when it is full, read-only or without quorum."
        yield _gauge("overlay_store_writable", about, self._overlay.writability.is_given)


class RequestMeter:
    """ASGI middleware, the innermost one, that counts requests by the route that took them."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            # The template, and not the path: names of objects would make as many series.
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(scope["method"], route, status).inc()
            if route not in _STREAMS:
                self._metrics.seconds.labels(scope["method"], route).observe(time.perf_counter() - started)


@router.get(
    "/metrics",
    summary="Read metrics",
    response_model=None,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}},
)
async def metrics(request: Request) -> Response:
    """Return what the controller counts and measures; docs/metrics.md lists it."""
    found: Metrics = request.app.state.metrics
    return Response(generate_latest(found.registry), headers={"content-type": CONTENT_TYPE_LATEST})


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=value)
