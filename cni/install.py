"""Putting the plugin and a network's configuration where container runtimes look, and taking them away again."""

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
"""What every runtime in use understands."""

CAPABILITIES = dict.fromkeys(("aliases", "bandwidth", "dns", "ips", "mac", "portMappings"), True)
"""What runtimes may ask for in `runtimeConfig` (CNI conventions)."""

ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
"""The capability by which some runtimes pass on what a pod says of itself."""

_PREFIX, _SUFFIX = "10-overlayd-", ".conflist"

_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
"""The rule for network names (CNI SPEC, section "Network configuration format")."""


HERE = Path(__file__).parent
_ELF = b"\x7fELF"
COMPILERS = ("musl-gcc", "cc")
"""musl's first: linked with it, the launcher starts in a seventh of the time."""
_COMPILE = ("-std=c11", "-Os", "-static", "-s", "-Wall", "-Wextra", "-Werror")


def install_plugin(bin_dir: Path = BIN_DIR, *, interpreted: bool = False) -> Path:
    """Install the launcher, the native one if it can be had and is not declined; return its path. Raises OSError."""
    path = bin_dir / PLUGIN
    replace_file(path, plugin(interpreted=interpreted), mode=0o755)
    return path


def plugin(*, interpreted: bool = False) -> bytes:
    """Return the launcher, the native one if it can be had and is not declined. Raises OSError."""
    return (None if interpreted else native_launcher()) or (HERE / "shim.py").read_bytes()


def is_native(path: Path) -> bool:
    """Tell whether an installed launcher is the native one."""
    return path.read_bytes()[:4] == _ELF


def native_launcher() -> bytes | None:
    """Return the launcher as a program of this machine: the one that was shipped, or one made of its source.

    None when there is neither, nor a compiler with a C library to link statically, or when it does not run here.
    """
    with tempfile.TemporaryDirectory(prefix="overlayd-launcher-") as directory:
        program = Path(directory) / PLUGIN
        try:
            shutil.copy(HERE / "launcher", program)
        except FileNotFoundError:
            if not compile_launcher(program):
                return None
        return program.read_bytes() if _runs(program) else None


def compile_launcher(program: Path) -> bool:
    """Compile the launcher; tell whether that was possible."""
    found = (compiler for compiler in map(shutil.which, COMPILERS) if compiler)
    return any(compile_with(compiler, program) for compiler in found)


def compile_with(compiler: str, program: Path) -> bool:
    """Compile the launcher with this compiler; tell whether that was possible."""
    command = [compiler, *_COMPILE, "-o", str(program), str(HERE / "launcher.c")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _runs(program: Path) -> bool:
    try:
        done = subprocess.run([program], env={"CNI_COMMAND": "VERSION"}, input=b"", capture_output=True, check=False)
    except OSError:  # another machine's, or a directory from which nothing may be executed
        return False
    return done.returncode == 0


@dataclass(frozen=True, slots=True)
class Conf:
    """A configuration list: its name, mostly the network's, and what it says besides.

    With `pod_annotations` whoever may make a pod may ask for addresses and reservations by its annotations.
    """

    network: str
    name: str = ""
    cni_version: str = CNI_VERSION
    pod_annotations: bool = False

    def __post_init__(self) -> None:
        """Raise `ValueError` when a name breaks the CNI rule for network names, or nobody knows the version."""
        for name in (self.network, self.listed_as):
            if not _NETWORK.fullmatch(name):
                raise ValueError(
                    f"{name!r} must start with a letter or digit and hold only letters, digits, '_', '.' and '-'"
                )
        if self.cni_version not in SUPPORTED_VERSIONS:
            raise ValueError(f"version {self.cni_version!r} is not one of {', '.join(SUPPORTED_VERSIONS)}")

    @property
    def listed_as(self) -> str:
        """The name by which runtimes know it."""
        return self.name or self.network

    @property
    def content(self) -> dict[str, object]:
        """The configuration list (CNI SPEC, section "Network configuration format")."""
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
    """Return where the configuration list of this name is."""
    return conf_dir / f"{_PREFIX}{Conf(name).listed_as}{_SUFFIX}"


def installed(bin_dir: Path = BIN_DIR, conf_dir: Path = CONF_DIR) -> list[Path]:
    """Return the launcher and every configuration list that is in place. Raises OSError."""
    plugin = [path for path in _entries(bin_dir) if path.name == PLUGIN]
    confs = [path for path in _entries(conf_dir) if path.name.startswith(_PREFIX) and path.name.endswith(_SUFFIX)]
    return sorted([*plugin, *confs])


def _entries(directory: Path) -> list[Path]:
    """Return what is in a directory, nothing when there is none; raise OSError. Path.glob() hides errors."""
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []


def remove(paths: Iterable[Path]) -> list[Path]:
    """Remove files; return those that were there. What is gone already is fine. Raises OSError."""
    removed = []
    for path in paths:
        with suppress(FileNotFoundError):
            path.unlink()
            removed.append(path)
    return removed


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file in one step: some runtimes watch the directory and notice only a rename inside it.

    Raises OSError, and then has left nothing behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # so that the name never stands for less than all of it
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
