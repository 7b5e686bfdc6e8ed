"""Which UDP ports VXLAN has had on a host, over restarts with other settings."""

from pathlib import Path

import pytest

from overlayd.agent.reconcile.vxlan_ports import remember_vxlan_port
from overlayd.model.errors import InvalidValue


def test_a_port_that_is_changed_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "vxlan-ports"
    starts = [(4789, set()), (4789, set()), (8472, {4789}), (4790, {4789, 8472}), (4789, {4790, 8472})]
    for port, former in starts:
        assert remember_vxlan_port(path, port) == former


def test_a_start_with_the_same_port_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "vxlan-ports"
    remember_vxlan_port(path, 4790)
    before = path.stat()
    remember_vxlan_port(path, 4790)
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_latest_sixteen_are_remembered(tmp_path: Path) -> None:
    path = tmp_path / "vxlan-ports"
    for port in range(5000, 5099):
        remember_vxlan_port(path, port)
    assert remember_vxlan_port(path, 5099) == set(range(5084, 5099))


@pytest.mark.parametrize("content", ["4789\nx\n", "0", "65536", "-1", "4789.5", "٤", "9" * 5000, "\udcff"])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vxlan-ports"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InvalidValue) as refused:
        remember_vxlan_port(path, 4789)
    assert refused.value.field == str(path)
    assert len(str(refused.value)) < 400
