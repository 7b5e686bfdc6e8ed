"""Every package of the tree is in what pip installs: an editable installation would not miss one."""

import tomllib

from tests.support.lab.nursery import ROOT


def test_every_package_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["packages"]
    roots = {name for name in listed if "." not in name}
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for root in roots for path in (ROOT / root).rglob("__init__.py")
    }
    assert (sorted(found - set(listed)), sorted(set(listed) - found)) == ([], [])
