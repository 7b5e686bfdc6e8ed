"""Paths of namespaces that others gave."""

import pytest

from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.spaces import namespaces


@pytest.mark.parametrize("path", ["/run/netns/a\0b", "/run/netns/\ud800", "", "/run/netns/" + "x" * 300, "/dev/null"])
def test_a_path_that_can_lead_to_no_namespace_leads_to_none(path: str) -> None:
    assert namespaces.identity(NamespaceRef(path)) is None
