"""Which kernels limit the number of permanent neighbours."""

from pathlib import Path

import pytest

from overlayd.kernel.limits import neighbour_limit


@pytest.mark.parametrize(("release", "limit"), [("4.18.0-553.el8.x86_64", 1024), ("4.20.17", 1024), ("5.0-rc1", None)])
def test_old_kernels_count_permanent_neighbours(tmp_path: Path, release: str, limit: int | None) -> None:
    setting = tmp_path / "gc_thresh3"
    setting.write_text("1024\n")
    assert neighbour_limit(release, setting) == limit


def test_this_kernel_can_be_asked() -> None:
    assert (neighbour_limit() or 1) > 0
