"""Letting the uplinks' traffic pass where Docker drops what the host forwards.

Docker sets the policy of FORWARD to DROP when it switches forwarding on. A drop is final, whatever our own tables
accept, and DOCKER-USER is the chain that Docker leaves to others (its manual, "Packet filtering and firewalls"). A
chain of our own, to which DOCKER-USER jumps first, accepts the uplinks. The tables are those of iptables-nft.
"""

import json
from collections.abc import Iterator
from typing import Any

from overlayd.dataplane.ownership import HOST_DEVICE_PREFIX
from overlayd.kernel import nft_program

_FAMILIES = ("ip", "ip6")
_TABLE, _FORWARD, _DOCKERS, _OURS = "filter", "FORWARD", "DOCKER-USER", "OVERLAYD-UPLINKS"


def admit_uplinks() -> bool:
    """Let uplinks pass where Docker's policy would drop them; return whether that took a rule. Raises `KernelError`."""
    changed = False
    for family in _families():
        chains = {chain["name"]: chain for chain in _listed(family, "chain")}
        drops = chains.get(_FORWARD, {}).get("policy") == "drop"
        if drops and _DOCKERS in chains and not (_OURS in chains and any(_jumps(family))):
            nft_program.run("-f", "-", stdin=_admission(family))
            changed = True
    return changed


def withdraw() -> None:
    """Remove what `admit_uplinks` made; raise `KernelError`."""
    for family in _families():
        lines = [f"delete rule {family} {_TABLE} {_DOCKERS} handle {handle}" for handle in _jumps(family)]
        if any(chain["name"] == _OURS for chain in _listed(family, "chain")):
            lines += [f"flush chain {family} {_TABLE} {_OURS}", f"delete chain {family} {_TABLE} {_OURS}"]
        if lines:
            nft_program.run("-f", "-", stdin="\n".join(lines) + "\n")


def _admission(family: str) -> str:
    chain = f"{family} {_TABLE} {_OURS}"
    # An uplink is called "ov" and a number: other devices with "ov", such as those of Open vSwitch, are foreign.
    devices = [f'"{HOST_DEVICE_PREFIX}{digit}*"' for digit in range(1, 10)]
    rules = [f"add rule {chain} {way} {device} counter accept" for device in devices for way in ("iifname", "oifname")]
    jump = f"insert rule {family} {_TABLE} {_DOCKERS} counter jump {_OURS}"
    jumps = [f"delete rule {family} {_TABLE} {_DOCKERS} handle {handle}" for handle in _jumps(family)]
    return "\n".join([f"add chain {chain}", f"flush chain {chain}", *rules, *jumps, jump]) + "\n"


def _jumps(family: str) -> Iterator[int]:
    """Yield the handles of the rules that lead to our chain."""
    for rule in _listed(family, "rule"):
        targets = (expression.get("jump", {}).get("target") for expression in rule["expr"])
        if rule["chain"] == _DOCKERS and _OURS in targets:
            yield rule["handle"]


def _families() -> list[str]:
    """Return for which families iptables has a filter table."""
    tables = {(table.get("family"), table.get("name")) for table in _objects("table", "list", "tables")}
    return [family for family in _FAMILIES if (family, _TABLE) in tables]


def _listed(family: str, kind: str) -> list[dict[str, Any]]:
    """Return the chains, or the rules, of the filter table of iptables."""
    return _objects(kind, "-a", "list", "table", family, _TABLE)


def _objects(kind: str, *arguments: str) -> list[dict[str, Any]]:
    return [each[kind] for each in json.loads(nft_program.run("-j", *arguments))["nftables"] if kind in each]
