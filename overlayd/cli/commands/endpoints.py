"""The commands about endpoints: attachments of containers, as the hosts have published them."""

from ipaddress import ip_address
from typing import Annotated

import typer

from overlayd.cli import tables
from overlayd.cli.access import api
from overlayd.cli.api import Document
from overlayd.configuration.help_pages import PlainGroup
from overlayd.model.address import IpAddress
from overlayd.wire.fields import Fields

app = typer.Typer(cls=PlainGroup, help="Endpoints: attachments of containers.")


@app.callback()
def _root() -> None:
    """Keep `list` a subcommand: typer would merge a single one into its group."""


@app.command("list")
def list_endpoints(
    context: typer.Context,
    network: Annotated[str | None, typer.Option("--network", help="Of this network only.")] = None,
    pod: Annotated[str | None, typer.Option("--pod", help="Of pods of this name only.")] = None,
    namespace: Annotated[str | None, typer.Option("--pod-namespace", help="Of pods in this namespace only.")] = None,
    workload: Annotated[str | None, typer.Option("--workload", help="Of workloads of this name only.")] = None,
    runtime: Annotated[
        str | None, typer.Option("--runtime", help="Attached this way only: cni, docker, netavark or netns.")
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="With this label only; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the endpoints that the hosts have published."""
    controller = api(context)
    found = controller.items(
        "/v1/endpoints",
        network=network,
        pod=pod,
        pod_namespace=namespace,
        workload=workload,
        runtime=runtime,
        labels=",".join(labels) if labels else None,
    )
    if as_json:
        tables.show_json(list(found))
        return
    names = {host["id"]: host["name"] for host in controller.items("/v1/hosts")}
    rows = [
        (
            ", ".join(map(str, _addresses(each))),
            each["network"],
            names.get(each["host"], each["host"]),
            each["container_id"],
            each["interface"],
            each["mac"],
            _workload(each),
        )
        for each in sorted(found, key=_place)
    ]
    columns = ("address", "network", "host", "container", "interface", "MAC", "workload")
    tables.show(tables.table("Endpoints", columns, rows))


def _workload(endpoint: Document) -> str:
    """Return namespace and name of a pod, or else the workload's name; empty from a controller that has neither."""
    fields = Fields(endpoint)
    if pod := fields.object("pod") if fields.has("pod") else None:
        return "/".join(filter(None, (pod.text("namespace"), pod.text("name"))))
    return fields.text("workload") if fields.has("workload") else ""


def _addresses(endpoint: Document) -> list[IpAddress]:
    found = endpoint["addresses"]
    return [ip_address(str(address)) for address in found] if isinstance(found, list) else []


def _place(endpoint: Document) -> tuple[str, int]:
    return str(endpoint["network"]), int(_addresses(endpoint)[0])
