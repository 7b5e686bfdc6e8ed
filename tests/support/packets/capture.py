"""Proof from the wire: VXLAN packets as they pass on the underlay, decoded with scapy.

A process of its own in the underlay's namespace: ``python -m tests.support.packets.capture INTERFACE``. It prints
``ready`` when it listens, and then one JSON object for each VXLAN packet until it is ended.
"""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Self

VXLAN_PORT = 4789
ETH_P_IP = 0x0800
ICMPV6 = 58


@dataclass(frozen=True, slots=True)
class VxlanPacket:
    """What one packet on the underlay carries: addresses as text, the inner Ethernet type and the inner IP protocol.

    The inner addresses are empty, and `protocol` is 0, where the inner packet is not IP. `icmpv6` is the type of such a
    message, and 0 of any other packet.
    """

    outer_source: str
    outer_destination: str
    vni: int
    inner_source_mac: str
    inner_destination_mac: str
    inner_source: str
    inner_destination: str
    ethertype: int
    protocol: int
    length: int
    icmpv6: int = 0


class Capture:
    """Packets that pass a device of the underlay, from the moment that the `with` block begins."""

    def __init__(self, enter: Callable[[list[str]], list[str]], interface: str = "under0") -> None:
        self._command = enter([sys.executable, "-m", "tests.support.packets.capture", interface])
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self._command],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="capture")
        self._reader.start()
        if self._line(30.0) != "ready":
            self.__exit__()
            raise AssertionError("the capture did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def packets(self, timeout: float) -> Iterator[VxlanPacket]:
        """Yield packets until none comes for `timeout` seconds."""
        while line := self._line(timeout):
            yield VxlanPacket(**json.loads(line))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())

    def _line(self, timeout: float) -> str:
        try:
            return self._lines.get(timeout=timeout)
        except queue.Empty:
            return ""


def main() -> int:
    """Listen and print."""
    # Here and not above: the tests that only read the output need not pay for scapy's start.
    from scapy.layers.inet import IP, UDP  # noqa: PLC0415
    from scapy.layers.inet6 import IPv6  # noqa: PLC0415
    from scapy.layers.l2 import Ether  # noqa: PLC0415
    from scapy.layers.vxlan import VXLAN  # noqa: PLC0415
    from scapy.packet import Packet  # noqa: PLC0415
    from scapy.sendrecv import sniff  # noqa: PLC0415

    def show(packet: Packet) -> None:
        if UDP not in packet or packet[UDP].dport != VXLAN_PORT or VXLAN not in packet:
            return
        inner = packet[VXLAN].payload
        if Ether not in inner:
            return
        ip = inner.getlayer(IP) or inner.getlayer(IPv6)
        outer = packet[IP] if packet.type == ETH_P_IP else packet[IPv6]
        found = VxlanPacket(
            outer_source=outer.src,
            outer_destination=outer.dst,
            vni=packet[VXLAN].vni,
            inner_source_mac=inner[Ether].src,
            inner_destination_mac=inner[Ether].dst,
            inner_source=ip.src if ip else "",
            inner_destination=ip.dst if ip else "",
            ethertype=inner[Ether].type,
            protocol=(ip.proto if IP in inner else ip.nh) if ip else 0,
            length=len(packet),
            icmpv6=ip.payload.type if IPv6 in inner and ip.nh == ICMPV6 else 0,
        )
        sys.stdout.write(json.dumps(asdict(found)) + "\n")
        sys.stdout.flush()

    def started() -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    sniff(iface=sys.argv[1], store=False, prn=show, started_callback=started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
