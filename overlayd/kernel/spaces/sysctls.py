"""The sysctls of our own namespaces, in canonical form: those of `ownership.SYSCTLS` that differ from the defaults."""

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from overlayd.dataplane import ownership
from overlayd.dataplane.items import DeviceSysctls
from overlayd.kernel.port import KernelError, translated
from overlayd.kernel.spaces.namespaces import entered
from overlayd.model.address import Family
from overlayd.model.ids import InterfaceName

DEFAULTS = {
    "net.bridge.bridge-nf-call-iptables": "0",
    "net.bridge.bridge-nf-call-ip6tables": "0",
    "net.bridge.bridge-nf-call-arptables": "0",
    "net.ipv4.ip_forward": "0",
    "net.ipv4.conf.default.forwarding": "0",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv4.conf.all.send_redirects": "1",
    "net.ipv4.conf.default.send_redirects": "1",
    "net.ipv6.conf.all.addr_gen_mode": "0",
    "net.ipv6.conf.default.addr_gen_mode": "0",
    "net.ipv6.conf.all.forwarding": "0",
    "net.ipv6.conf.default.forwarding": "0",
    "net.ipv6.conf.all.disable_ipv6": "0",
    "net.ipv6.conf.default.disable_ipv6": "0",
}
"""What the kernel is compiled with. A new namespace starts with the host's IPv4 values instead
(net.core.devconf_inherit_init_net), so the defaults are written too. Those of br_netfilter are 1, but our bridges
are to be as they are without that module, and what they forward passes no hooks of IP."""

_ABSENT = {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}
"""What it means that these are not there: a kernel booted with ipv6.disable=1 has IPv6 disabled."""

Values = frozenset[tuple[str, str]]


def observe(fd: int) -> Values:
    """Return the sysctls of a namespace that differ from the defaults."""
    values = dict(_ABSENT)
    with entered(fd):
        # /proc/sys/net shows the namespace of the thread that opens it.
        for name in ownership.SYSCTLS:
            if (value := _read(_file(name))) is not None:
                values[name] = value
    return frozenset((name, value) for name, value in values.items() if value != DEFAULTS[name])


def enforce(fd: int, wanted: Values) -> None:
    """Set these sysctls of a namespace, and the others that are ours to their defaults."""
    values = {**DEFAULTS, **dict(wanted)}
    with entered(fd):
        for name, value in values.items():
            _write(name, value)
        for name in ownership.DEVICE_SYSCTLS:
            for device in _devices(name):
                _enforce_on(device, name, values)


def _enforce_on(device: str, name: str, values: Mapping[str, str]) -> None:
    """Give one of DEVICE_SYSCTLS on one device the value of the namespace."""
    file = _file(name.format(device))
    found = _read(file)
    if found is not None and deviates(name, found, values):
        with translated(str(file)), suppress(FileNotFoundError):  # the device has just gone
            file.write_text(values[ownership.DEVICE_SYSCTLS[name]])


def deviating(devices: Iterable[tuple[InterfaceName, Mapping[str, str]]], known: Values) -> Values:
    """Return the sysctls of single devices that differ from these values of their namespace."""
    values = {**DEFAULTS, **dict(known)}
    return frozenset(
        (name.format(device), value)
        for device, settings in devices
        for name, value in settings.items()
        if deviates(name, value, values)
    )


def deviates(name: str, value: str, values: Mapping[str, str]) -> bool:
    """Return whether one of DEVICE_SYSCTLS has another effect than the namespace's own, which are in `values`."""
    general = values[ownership.DEVICE_SYSCTLS[name]]
    return int(value) > int(general) if name in ownership.HIGHER_COUNTS else value != general


def _devices(name: str) -> list[str]:
    """Return the devices that have one of DEVICE_SYSCTLS, except for the loopback, which keeps the host's value."""
    conf = _file(name).parent.parent
    with translated(str(conf)):
        try:
            return [each.name for each in conf.iterdir() if each.name not in {"all", "default", ownership.LOOPBACK}]
        except FileNotFoundError:  # of IPv6, where the kernel has none
            return []


def directories() -> tuple[Path, ...]:
    """Return where the files of the sysctls are: the thread that opens a directory sees that of its namespace."""
    return tuple(sorted({_file(name).parent for name in ownership.SYSCTLS}))


def observe_device(fd: int, item: DeviceSysctls) -> DeviceSysctls:
    """Return the present values of the sysctls that an item names; missing ones are left out."""
    found = []
    with entered(fd):
        for name, _ in item.sysctls:
            if (value := _read(_device_file(item, name))) is not None:
                found.append((name, value))
    return replace(item, sysctls=frozenset(found))


def enforce_device(fd: int, item: DeviceSysctls) -> None:
    """Set the sysctls of a device."""
    with entered(fd):
        enforce_device_here(item)


def enforce_device_here(item: DeviceSysctls) -> None:
    """Set the sysctls of a device of the namespace in which the calling thread is; raise `KernelError`."""
    for name, value in sorted(item.sysctls):
        # A device without IPv6 has no such file: its MTU is below 1280, or the kernel's IPv6 is disabled.
        with translated(f"sysctl net.ipv6.conf.{item.dev}.{name}"):
            _device_file(item, name).write_text(value)


def _device_file(item: DeviceSysctls, name: str) -> Path:
    # The name of a device may have dots in it.
    return Path("/proc/sys/net/ipv6/conf") / item.dev / name


def observe_host(
    fd: int, uplinks: Iterable[InterfaceName], ways_out: Iterable[InterfaceName]
) -> Iterator[tuple[str, str]]:
    """Yield name and value of the settings of the host's own namespace, and of these devices there, that matter."""
    of_uplinks = (name for device in uplinks for name in ownership.uplink_sysctls(device))
    with entered(fd):
        for name in (*ownership.HOST_SYSCTLS, *of_uplinks, *map(ownership.forwarding_sysctl, ways_out)):
            if (value := _read(_file(name))) is not None:
                yield name, value


def put(fd: int, name: str, value: str) -> None:
    """Set one sysctl of a namespace."""
    with entered(fd):
        if name == ownership.FORWARDING[Family.V6]:
            _keep_listening_to_routers()
        with translated(f"sysctl {name}"):
            _file(name).write_text(value)


def _keep_listening_to_routers() -> None:
    """Let devices still accept routes from routers when the host begins to forward (ip-sysctl, accept_ra: 1 and 2)."""
    conf = Path("/proc/sys/net/ipv6/conf")
    with translated(f"sysctls of devices in {conf}"):
        devices = list(conf.iterdir())
    for device in devices:
        file = device / "accept_ra"
        if _read(file) == _ACCEPT_UNLESS_FORWARDING:
            with translated(str(file)), suppress(FileNotFoundError):  # the device has just gone
                file.write_text(_ACCEPT_ALWAYS)


_ACCEPT_UNLESS_FORWARDING, _ACCEPT_ALWAYS = "1", "2"


def _write(name: str, value: str) -> None:
    try:
        _file(name).write_text(value)
    except FileNotFoundError as error:
        if value not in {_ABSENT.get(name), DEFAULTS[name]}:
            raise KernelError(errno.ENOENT, f"sysctl {name}: {error.strerror}") from error
    except OSError as error:
        raise KernelError.of(error, f"sysctl {name}") from error


def _read(file: Path) -> str | None:
    """Return the value in a file, None when the kernel has no such sysctl or no such device; raise `KernelError`."""
    with translated(str(file)):
        try:
            return file.read_text().strip()
        except FileNotFoundError:
            return None


def _file(sysctl: str) -> Path:
    return Path("/proc/sys") / (sysctl if "/" in sysctl else sysctl.replace(".", "/"))
