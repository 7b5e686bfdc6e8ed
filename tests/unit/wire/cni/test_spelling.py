"""Requests of runtimes that spell fields their own way."""

import json

from overlayd.wire.cni.spelling import as_specified

FROM_CONTAINERD = """{
  "bandwidth": {"IngressRate": 8000000, "IngressBurst": 4294967295, "EgressRate": 0, "EgressBurst": 0},
  "dns": {"Servers": ["192.0.2.53"], "Searches": ["shop.svc"], "Options": null},
  "ipRanges": [[{"Subnet": "10.32.0.0/16", "RangeStart": "10.32.0.9", "RangeEnd": "", "Gateway": ""}]],
  "portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}]}"""
"""What containerd 1.6 sends for a pod, from its cache of results (`ipRanges` by its source)."""

SPECIFIED = {
    "bandwidth": {"ingressRate": 8000000, "ingressBurst": 4294967295, "egressRate": 0, "egressBurst": 0},
    "dns": {"servers": ["192.0.2.53"], "searches": ["shop.svc"], "options": None},
    "ipRanges": [[{"subnet": "10.32.0.0/16", "rangeStart": "10.32.0.9", "rangeEnd": "", "gateway": ""}]],
    "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}],
}


def test_fields_of_containerd_are_read_as_the_conventions_spell_them() -> None:
    assert as_specified(json.loads(FROM_CONTAINERD)) == SPECIFIED


def test_other_names_and_what_lies_too_deep_are_left_alone() -> None:
    deep = """{"Servants": {"HOSTPORT": [{"a": {"HostPort": [[[{"HostPort": 1}]]]}}]}}"""
    assert as_specified(json.loads(deep)) == json.loads(deep.replace("HOSTPORT", "hostPort"))
