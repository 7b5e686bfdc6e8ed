"""Messages as pyroute2 encodes them. This is the only module that imports it, and on first need only.

`import pyroute2` loads the whole library: 188 modules, 8 MB and 0.1 s of processor time. The structures of rtnetlink
alone take a seventh of that memory, so the package's own initialisation is skipped.
"""

import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import cache
from types import ModuleType
from typing import Any

from overlayd.kernel.netlink.framing import HEADER, NLM_F_REQUEST
from overlayd.kernel.port import translated

_LIBRARY = "pyroute2"

Attributes = Sequence[tuple[str, object]]
"""Names as in the kernel's headers, and values as pyroute2 takes them. A nested attribute's value is `nested(...)`."""


class Structure(Enum):
    """What follows a message's header. The value is pyroute2's module and class."""

    LINK = ("pyroute2.netlink.rtnl.ifinfmsg", "ifinfmsg")
    ADDRESS = ("pyroute2.netlink.rtnl.ifaddrmsg", "ifaddrmsg")
    NEIGHBOUR = ("pyroute2.netlink.rtnl.ndmsg", "ndmsg")
    ROUTE = ("pyroute2.netlink.rtnl.rtmsg", "rtmsg")
    TRAFFIC = ("pyroute2.netlink.rtnl.tcmsg", "tcmsg")


_lock = threading.Lock()
"""The kernel's thread and the one that reaps both encode, and pyroute2 fills tables of its classes at first use."""


def encoded(structure: Structure, kind: int, flags: int, fields: Mapping[str, int], attributes: Attributes) -> bytes:
    """Return a request of type `kind` with sequence number 0; `flags` are added to NLM_F_REQUEST.

    Takes 0.1 to 0.7 ms, and 2 to 15 ms more for the first one of a structure. Raises `KernelError` when its modules
    cannot be read.
    """
    with _lock:
        message = _class_of(structure)()
        message["header"]["type"], message["header"]["flags"] = kind, NLM_F_REQUEST | flags
        message.update(fields)
        message["attrs"] = list(attributes)
        message.encode()
        data = bytes(message.data)
    length, *_ = HEADER.unpack_from(data)
    return data[:length].ljust(length, b"\0")  # the last attribute's padding may be missing, or stand behind the end


def nested(*attributes: tuple[str, object], **fields: int) -> dict[str, object]:
    """Return the value of an attribute that holds attributes, and fields before them where it has some."""
    return {**fields, "attrs": list(attributes)}


def load(structure: Structure) -> None:
    """Import the modules of a structure, unless that is done; raise `KernelError` on failure."""
    with _lock:
        _class_of(structure)


@cache
def _class_of(structure: Structure) -> Any:  # noqa: ANN401 - pyroute2 has no types
    module, name = structure.value
    found = _module(module)
    return _traffic_class(found) if structure is Structure.TRAFFIC else getattr(found, name)


def _module(name: str) -> ModuleType:
    with translated(f"load {name}"), _uninitialized(_LIBRARY):
        return importlib.import_module(name)


@contextmanager
def _uninitialized(package: str) -> Iterator[None]:
    """Let modules of a package be imported without what its `__init__` imports, unless it has been imported already.

    Whatever imports the package itself later gets all of it.
    """
    if package in sys.modules or (spec := importlib.util.find_spec(package)) is None:
        yield
        return
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        sys.modules.pop(package)


def _traffic_class(tcmsg: Any) -> Any:  # noqa: ANN401 - pyroute2 has no types
    """Return struct tcmsg with two attributes that pyroute2 lacks: TCA_TBF_RATE64, and a program of classic BPF.

    The classes inherit from its bases and not from its own ones for the same attributes: a class that pyroute2 has
    encoded with once passes its table of attributes on to those that inherit from it.
    """
    netlink = _module("pyroute2.netlink")
    parameters = tcmsg.sched_tbf.options.tbf_parms
    limits = type(
        "options",
        (netlink.nla,),
        {
            "nla_map": ((1, "TCA_TBF_PARMS", "tbf_parms"), (4, "TCA_TBF_RATE64", "uint64")),
            "tbf_parms": type("tbf_parms", (netlink.nla,), {"fields": parameters.fields}),
        },
    )
    programs = type(
        "options",
        (netlink.nla,),
        {
            "nla_map": (
                (4, "TCA_BPF_OPS_LEN", "uint16"),
                (5, "TCA_BPF_OPS", "cdata"),
                (8, "TCA_BPF_FLAGS", "uint32"),
            )
        },
    )
    options = {"tbf": limits, "bpf": programs}
    return type(
        "tcmsg",
        (netlink.nlmsg,),
        {
            "fields": tcmsg.tcmsg.fields,
            "nla_map": ((1, "TCA_KIND", "asciiz"), (2, "TCA_OPTIONS", "get_options")),
            "get_options": staticmethod(lambda message, **_: options[message.get_attr("TCA_KIND")]),
        },
    )
