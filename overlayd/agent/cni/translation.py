"""Translates between CNI and `attach`: requests, results, and the names of fields in errors. Pure."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from overlayd.agent.attach.request import AttachmentName, AttachRequest, AttachResult
from overlayd.kernel.port import KernelError
from overlayd.model.endpoint import CNI, Workload
from overlayd.model.errors import (
    AlreadyExists,
    Exhausted,
    Forbidden,
    InUse,
    InvalidValue,
    NotFound,
    OverlayError,
    Unauthenticated,
    Unavailable,
)
from overlayd.wire.cni.error import CniError, Code
from overlayd.wire.cni.requests import Request
from overlayd.wire.cni.result import Assigned, Result
from overlayd.wire.cni.wishes import Wishes

_CODES: dict[type[OverlayError], Code] = {
    NotFound: Code.INVALID_CONFIG,
    InvalidValue: Code.INVALID_CONFIG,
    AlreadyExists: Code.INVALID_CONFIG,
    InUse: Code.TRY_AGAIN_LATER,
    Unavailable: Code.TRY_AGAIN_LATER,
    Unauthenticated: Code.TRY_AGAIN_LATER,
    Forbidden: Code.TRY_AGAIN_LATER,
    Exhausted: Code.EXHAUSTED,
}
"""By who is at fault. An error that names a variable has that variable's code instead."""

_VARIABLE_CODES = {"CNI_NETNS": Code.INVALID_NAMESPACE}

_FIELDS = {
    "interface": "CNI_IFNAME",
    "sandbox": "CNI_NETNS",
    "ports": "runtimeConfig.portMappings",
    "ranges": "runtimeConfig.ipRanges",
    "needs_egress": "ipMasq",
}
"""Where a CNI request says what `AttachRequest` calls so; the request itself knows the others."""


def name_of(request: Request) -> AttachmentName:
    """Return the attachment that an ADD, a DEL or a CHECK is about."""
    return AttachmentName(request.network, request.container_id, request.interface)


def attach_request(request: Request) -> AttachRequest:
    """Return the attachment that an ADD requests."""
    wishes = request.wishes
    return AttachRequest(
        name_of(request),
        request.sandbox,
        owner=request.conf,
        addresses=wishes.addresses,
        ranges=tuple((each.first, each.last) for each in wishes.ranges),
        reservations=wishes.reservations,
        mac=wishes.mac,
        ports=wishes.ports,
        bandwidth=wishes.bandwidth,
        workload=_workload(wishes),
        needs_egress=wishes.masquerade,
    )


def _workload(wishes: Wishes) -> Workload:
    """Return the workload, named for its pod or for a job of Nomad: CNI has no names of containers."""
    known = wishes.workload
    return replace(known, runtime=CNI, name=known.pod.name if known.pod else known.name)


def cni_result(made: AttachResult, request: Request) -> Result:
    """Return the result of an ADD, appended to that of the earlier plugins of its chain."""
    endpoint = made.endpoint
    return Result(
        interface=endpoint.interface,
        mac=endpoint.mac,
        sandbox=endpoint.sandbox,
        mtu=made.mtu,
        ips=tuple(Assigned(each.interface, each.gateway) for each in made.addresses),
        routes=made.routes,
        dns=request.wishes.dns,
        previous=request.previous,
    )


@contextmanager
def named_as_in(request: Request) -> Iterator[None]:
    """Rename fields in errors from those of the `AttachRequest` to those of the ADD."""
    try:
        yield
    except OverlayError as error:
        error.field = error.field and (_FIELDS.get(error.field) or request.field(error.field))
        raise


def cni_error(error: OverlayError) -> CniError:
    """Return how CNI reports an error of this agent."""
    if error.field and error.field.startswith("CNI_"):
        return CniError(_VARIABLE_CODES.get(error.field, Code.INVALID_ENVIRONMENT), str(error))
    if isinstance(error, KernelError):
        return CniError(Code.TRY_AGAIN_LATER if error.is_shortage else Code.KERNEL, str(error))
    return CniError(_CODES.get(type(error), Code.TRY_AGAIN_LATER), str(error))
