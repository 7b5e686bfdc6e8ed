"""What keeps others off the uplinks: the drop-ins mean our devices, and no device of anybody else's."""

import re
from configparser import ConfigParser
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from overlayd.dataplane.desired.uplink import host_device
from overlayd.model.ids import Vni

PACKAGING = Path(__file__).resolve().parents[3] / "packaging"
OURS = [host_device(Vni(vni)) for vni in (1, 42, 999, 10_000, 2**24 - 1)]
FOREIGN = ["ovs-system", "ovirtmgmt", "ov", "ovn0", "eth0", "lo", "br0", "up0"]


def read(path: Path) -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # keys have capitals
    parser.read_string(path.read_text())
    return parser


def patterns(path: Path, section: str, key: str) -> list[str]:
    """Return the patterns of device names that a file has."""
    return re.findall(r"(?:interface-name:)?(ov[^,\s]*)", read(path)[section][key])


PATTERNS = [
    ("network/00-overlayd.network", "Match", "Name"),
    ("network/00-overlayd.link", "Match", "OriginalName"),
    ("NetworkManager/00-overlayd.conf", "device-overlayd", "match-device"),
    ("NetworkManager/00-overlayd.conf", "keyfile", "unmanaged-devices+"),
]


@pytest.mark.parametrize(("file", "section", "key"), PATTERNS)
def test_uplinks_are_meant_and_no_other_device(file: str, section: str, key: str) -> None:
    meant = patterns(PACKAGING / file, section, key)
    assert meant
    assert all(any(fnmatchcase(device, pattern) for pattern in meant) for device in OURS)
    assert not [device for device in FOREIGN if any(fnmatchcase(device, pattern) for pattern in meant)]


def test_networkmanager_is_given_no_pattern_that_it_does_not_know() -> None:
    # NetworkManager.conf(5): * and ?, "ranges and escaping is not supported"
    text = (PACKAGING / "NetworkManager/00-overlayd.conf").read_text()
    assert "[" not in "".join(line for line in text.splitlines() if "=" in line)


@pytest.mark.parametrize("file", sorted((PACKAGING / "network").iterdir()), ids=lambda path: path.name)
def test_they_come_before_what_an_administrator_may_have(file: Path) -> None:
    assert file.name < "01"
    assert read(file)["Match"]["Kind"] == "veth"
