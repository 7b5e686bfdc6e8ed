"""Installs and removes the CNI plugin and the configuration lists of networks."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cni.shim import SUPPORTED_VERSIONS

BIN_DIR = Path("/opt/cni/bin")
CONF_DIR = Path("/etc/cni/net.d")
PLUGIN = "overlayd"
"""The name of the executable, which is the `type` in a configuration."""

CNI_VERSION = "1.0.0"
"""The version of the CNI SPEC in new configuration lists: every runtime in use supports it."""

CAPABILITIES = dict.fromkeys(("aliases", "bandwidth", "dns", "ips", "mac", "portMappings"), True)
"""The capabilities that runtimes may pass in `runtimeConfig` (CNI conventions)."""

ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
"""The capability by which some runtimes pass the annotations of a pod."""

_PREFIX, _SUFFIX = "10-overlayd-", ".conflist"

_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
"""The rule for network names (CNI SPEC, section "Network configuration format")."""


HERE = Path(__file__).parent
_ELF = b"\x7fELF"
COMPILERS = ("musl-gcc", "cc")
"""In order of preference: linked with musl, the launcher starts six times as fast."""
_COMPILE = ("-std=c11", "-Os", "-static", "-s", "-Wall", "-Wextra", "-Werror")


def install_plugin(bin_dir: Path = BIN_DIR, *, interpreted: bool = False) -> Path:
    """Install the launcher and return its path. It is the one of `plugin`. Raises OSError."""
    path = bin_dir / PLUGIN
    replace_file(path, plugin(interpreted=interpreted), mode=0o755)
    return path


def plugin(*, interpreted: bool = False) -> bytes:
    """Return the native launcher, or the Python one if `interpreted` or if there is no native one. Raises OSError."""
    return (None if interpreted else native_launcher()) or interpreted_launcher()


def is_native(path: Path) -> bool:
    """Return whether an installed launcher is the native one."""
    return path.read_bytes()[:4] == _ELF


def native_launcher() -> bytes | None:
    """Return the native launcher, either the shipped one or one compiled here.

    None without a shipped one where there is no C compiler with a static C library, or when it does not run here.
    """
    with tempfile.TemporaryDirectory(prefix="overlayd-launcher-") as directory:
        program = Path(directory) / PLUGIN
        try:
            shutil.copy(HERE / "launcher", program)
        except FileNotFoundError:
            if not compile_launcher(program):
                return None
        return program.read_bytes() if _runs(program) else None


def interpreted_launcher() -> bytes:
    """Return the Python launcher, compiled by the interpreter that executes it here. Raises OSError.

    Without that interpreter, or when it fails, what is returned is the source alone.
    """
    source = (HERE / "shim.py").read_bytes()
    interpreter = source.partition(b"\n")[0].removeprefix(b"#!").split()
    try:
        done = subprocess.run([*interpreter, HERE / "shim_compiler.py"], input=source, capture_output=True, check=False)
    except OSError:
        return source
    return source if done.returncode else done.stdout


def compile_launcher(program: Path) -> bool:
    """Compile the launcher; return whether that succeeded."""
    found = (compiler for compiler in map(shutil.which, COMPILERS) if compiler)
    return any(compile_with(compiler, program) for compiler in found)


def compile_with(compiler: str, program: Path) -> bool:
    """Compile the launcher with this compiler; return whether that succeeded."""
    command = [compiler, *_COMPILE, "-o", str(program), str(HERE / "launcher.c")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _runs(program: Path) -> bool:
    try:
        done = subprocess.run([program], env={"CNI_COMMAND": "VERSION"}, input=b"", capture_output=True, check=False)
    except OSError:  # made for another architecture, or in a directory that is mounted noexec
        return False
    return done.returncode == 0


@dataclass(frozen=True, slots=True)
class Conf:
    """A configuration list. Without `name` it has the name of its network.

    With `pod_annotations`, every user who may create a pod can request addresses and reservations by annotations.
    """

    network: str
    name: str = ""
    cni_version: str = CNI_VERSION
    pod_annotations: bool = False

    def __post_init__(self) -> None:
        """Raise `ValueError` when a name breaks the CNI rule for network names, or the version is unknown."""
        for name in (self.network, self.listed_as):
            if not _NETWORK.fullmatch(name):
                raise ValueError(
                    f"{name!r} must start with a letter or digit and hold only letters, digits, '_', '.' and '-'"
                )
        if self.cni_version not in SUPPORTED_VERSIONS:
            raise ValueError(f"version {self.cni_version!r} is not one of {', '.join(SUPPORTED_VERSIONS)}")

    @property
    def listed_as(self) -> str:
        """The name of the list, by which runtimes refer to it."""
        return self.name or self.network

    @property
    def content(self) -> dict[str, object]:
        """The list as JSON (CNI SPEC, section "Network configuration format")."""
        plugin: dict[str, object] = {"type": PLUGIN}
        if self.listed_as != self.network:
            plugin["network"] = self.network
        plugin["capabilities"] = {**CAPABILITIES, **({ANNOTATIONS: True} if self.pod_annotations else {})}
        return {"cniVersion": self.cni_version, "name": self.listed_as, "plugins": [plugin]}


def conflist(network: str, cni_version: str = CNI_VERSION) -> dict[str, object]:
    """Return the configuration list of a network."""
    return Conf(network, cni_version=cni_version).content


def install_conf(conf: Conf, conf_dir: Path = CONF_DIR) -> Path:
    """Install a configuration list; return its path. Raises OSError."""
    path = conf_path(conf.listed_as, conf_dir)
    replace_file(path, json.dumps(conf.content, indent=2).encode() + b"\n", mode=0o644)
    return path


def conf_path(name: str, conf_dir: Path = CONF_DIR) -> Path:
    """Return the path of the configuration list of this name."""
    return conf_dir / f"{_PREFIX}{Conf(name).listed_as}{_SUFFIX}"


def installed(bin_dir: Path = BIN_DIR, conf_dir: Path = CONF_DIR) -> list[Path]:
    """Return the paths of the installed launcher and configuration lists. Raises OSError."""
    plugin = [path for path in _entries(bin_dir) if path.name == PLUGIN]
    confs = [path for path in _entries(conf_dir) if path.name.startswith(_PREFIX) and path.name.endswith(_SUFFIX)]
    return sorted([*plugin, *confs])


def _entries(directory: Path) -> list[Path]:
    """Return the entries of a directory, none when it is missing; raise OSError, which Path.glob() would hide."""
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []


def remove(paths: Iterable[Path]) -> list[Path]:
    """Remove files; return those that existed. Missing ones are ignored. Raises OSError."""
    removed = []
    for path in paths:
        with suppress(FileNotFoundError):
            path.unlink()
            removed.append(path)
    return removed


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file atomically, by a rename inside its directory, which some runtimes watch.

    Raises OSError, after removing the partial file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # before the rename, so that the name never refers to a partial file
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
