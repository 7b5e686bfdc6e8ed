"""Selects the endpoints of workloads by the data that runtimes report."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query

from overlayd.model.endpoint import Pod, Workload
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted

_NO_POD = Pod()


@dataclass(frozen=True, slots=True)
class WorkloadFilter:
    """Which workloads are asked for; None and nothing stand for any."""

    namespace: str | None
    pod: str | None
    uid: str | None
    alias: str | None
    runtime: str | None
    name: str | None
    labels: frozenset[tuple[str, str]]

    def matches(self, workload: Workload) -> bool:
        """Return whether a workload matches."""
        pod = workload.pod or _NO_POD
        return (
            self.namespace in (None, pod.namespace)
            and self.pod in (None, pod.name)
            and self.uid in (None, pod.uid)
            and (self.alias is None or self.alias in workload.aliases)
            and self.runtime in (None, workload.runtime)
            and self.name in (None, workload.name)
            and self.labels.issubset(workload.labels)
        )


async def _filter(
    pod: Annotated[str | None, Query(description="Only of pods of this name.", examples=["web-0"])] = None,
    pod_namespace: Annotated[str | None, Query(description="Only of pods in it.", examples=["shop"])] = None,
    pod_uid: Annotated[str | None, Query(description="Only of the pod with this UID.", examples=["2d9c7b1e"])] = None,
    alias: Annotated[str | None, Query(description="Only with this further name.", examples=["web"])] = None,
    runtime: Annotated[str | None, Query(description="Only attached this way.", examples=["docker"])] = None,
    workload: Annotated[str | None, Query(description="Only of workloads of this name.", examples=["web-1"])] = None,
    labels: Annotated[
        str | None, Query(description="Only with all of these labels.", examples=["app=web,tier=front"])
    ] = None,
) -> WorkloadFilter:
    asked = frozenset(map(_label, labels.split(","))) if labels else frozenset()
    return WorkloadFilter(pod_namespace, pod, pod_uid, alias, runtime, workload, asked)


AskedWorkload = Annotated[WorkloadFilter, Depends(_filter)]


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InvalidValue(f"{quoted(text)} is not a label such as app=web", field="labels")
    return key, value
