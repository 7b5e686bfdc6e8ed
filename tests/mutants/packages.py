"""The packages that are tested by mutation, with their modules and tests."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Package:
    """Modules as patterns of paths, and the tests that must notice a change of them.

    `processes` is how many mutants are tested at a time: more where tests wait.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    processes: int = 2


PACKAGES = {
    "model": Package(("overlayd/model/*.py",), ("tests/unit/model", "tests/unit/ipam", "tests/unit/wire")),
    "ipam": Package(("overlayd/ipam/*.py",), ("tests/unit/ipam", "tests/properties/test_ipam.py")),
    "wire": Package(("overlayd/wire/*.py",), ("tests/unit/wire",)),
    "dataplane": Package(("overlayd/dataplane/*.py",), ("tests/unit/dataplane",)),
    "cni": Package(("cni/shim.py",), ("tests/unit/cni/test_shim.py",), processes=12),
}
"""Slow property tests are left out, because a mutant that survives has passed all of them. A `*` matches `/` too."""
