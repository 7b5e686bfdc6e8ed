"""A kubelet's side of the Kubernetes container runtime interface, as far as a pod's network needs it."""

import json
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message

from tests.support.runtimes import cri_pb2 as cri

A = TypeVar("A", bound=Message)

_SERVICE = "/runtime.v1.RuntimeService"
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.default_authority", "localhost"),  # containerd refuses a socket's path there
)
_PATIENCE = 30.0
"""Seconds for a call."""


class Kubelet:
    """Asks the runtime at a gRPC endpoint for pods' sandboxes, as long as the `with` block lasts.

    Calls raise `grpc.RpcError` when the runtime refuses.
    """

    def __init__(self, endpoint: str, cgroup: str) -> None:
        """`cgroup` is the name of the control group in which the pods are to be."""
        self._channel = grpc.insecure_channel(endpoint, _OPTIONS)
        self._cgroup = f"/{cgroup}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    @property
    def has_network(self) -> bool:
        """Return whether the runtime has found a configuration that it can use."""
        return self._network_condition.status

    @property
    def why_not_ready(self) -> str:
        """Why pods can have no network now; empty when they can."""
        return self._network_condition.message

    @property
    def _network_condition(self) -> cri.RuntimeCondition:
        status = self._call("Status", cri.StatusRequest(), cri.StatusResponse)
        return next(each for each in status.status.conditions if each.type == "NetworkReady")

    @property
    def network(self) -> str:
        """The runtime's networks and their configuration, as the runtime returns them in JSON."""
        return self._call("Status", cri.StatusRequest(verbose=True), cri.StatusResponse).info["cniconfig"]

    def run(self, name: str, ports: tuple[cri.PortMapping, ...] = (), annotations: dict[str, str] | None = None) -> str:
        """Start the sandbox of a pod; return its id."""
        config = cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=name, uid=f"uid-of-{name}", namespace="shop"),
            hostname=name,
            dns_config=cri.DNSConfig(servers=["192.0.2.53"], searches=["shop.svc"]),
            port_mappings=ports,
            annotations=annotations,
            linux=cri.LinuxPodSandboxConfig(cgroup_parent=self._cgroup),
        )
        return self._call(
            "RunPodSandbox", cri.RunPodSandboxRequest(config=config), cri.RunPodSandboxResponse
        ).pod_sandbox_id

    def status(self, sandbox: str) -> cri.PodSandboxStatusResponse:
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox, verbose=True)
        return self._call("PodSandboxStatus", request, cri.PodSandboxStatusResponse)

    def namespace(self, sandbox: str) -> str:
        """Return the path of a sandbox's network namespace."""
        namespaces = json.loads(self.status(sandbox).info["info"])["runtimeSpec"]["linux"]["namespaces"]
        return str(next(each["path"] for each in namespaces if each["type"] == "network"))

    def stop(self, sandbox: str) -> None:
        self._call("StopPodSandbox", cri.StopPodSandboxRequest(pod_sandbox_id=sandbox), cri.StopPodSandboxResponse)

    def remove(self, sandbox: str) -> None:
        self._call(
            "RemovePodSandbox", cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox), cri.RemovePodSandboxResponse
        )

    def _call(self, method: str, request: Message, answer: type[A]) -> A:
        call = self._channel.unary_unary(
            f"{_SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        found = call(request, timeout=_PATIENCE)
        assert isinstance(found, answer)
        return found
