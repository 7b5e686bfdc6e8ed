"""Putting the plugin and a network's configuration where container runtimes look, and taking them away again."""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BIN_DIR = Path("/opt/cni/bin")
CONF_DIR = Path("/etc/cni/net.d")
PLUGIN = "overlayd"
"""The name of the executable, which is the `type` in a configuration."""

CNI_VERSION = "1.0.0"
"""What every runtime in use understands."""


_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
"""The rule for network names (CNI SPEC, section "Network configuration format")."""


HERE = Path(__file__).parent
_COMPILE = ("-std=c11", "-Os", "-static", "-s", "-Wall", "-Wextra", "-Werror")


def install_plugin(bin_dir: Path = BIN_DIR, *, interpreted: bool = False) -> Path:
    """Install the launcher, the native one if it can be had and is not declined; return its path. Raises OSError."""
    path = bin_dir / PLUGIN
    content = None if interpreted else native_launcher()
    _replace(path, content or (HERE / "shim.py").read_bytes(), mode=0o755)
    return path


def native_launcher() -> bytes | None:
    """Return the launcher as a program of this machine: the one that was shipped, or one made of its source.

    None when there is neither, nor a compiler with a C library to link statically, or when it does not run here.
    """
    with tempfile.TemporaryDirectory(prefix="overlayd-launcher-") as directory:
        program = Path(directory) / PLUGIN
        if (HERE / "launcher").exists():
            shutil.copy(HERE / "launcher", program)
        elif not compile_launcher(program):
            return None
        return program.read_bytes() if _runs(program) else None


def compile_launcher(program: Path) -> bool:
    """Compile the launcher; tell whether that was possible."""
    compiler = shutil.which("cc")
    if compiler is None:
        return False
    command = [compiler, *_COMPILE, "-o", str(program), str(HERE / "launcher.c")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _runs(program: Path) -> bool:
    try:
        done = subprocess.run([program], env={"CNI_COMMAND": "VERSION"}, input=b"", capture_output=True, check=False)
    except OSError:  # another machine's, or a directory from which nothing may be executed
        return False
    return done.returncode == 0


def install_network(network: str, conf_dir: Path = CONF_DIR, cni_version: str = CNI_VERSION) -> Path:
    """Install the configuration list of a network; return its path.

    Raises ValueError when the name breaks the CNI rule for network names, and OSError.
    """
    path = _conflist_path(network, conf_dir)
    _replace(path, json.dumps(conflist(network, cni_version), indent=2).encode() + b"\n", mode=0o644)
    return path


CAPABILITIES = {"bandwidth": True, "ips": True, "mac": True, "portMappings": True}
"""What runtimes may ask for in `runtimeConfig` (the CNI conventions)."""


def conflist(network: str, cni_version: str = CNI_VERSION) -> dict[str, object]:
    """Return the configuration list of a network (CNI SPEC, section "Network configuration format")."""
    return {"cniVersion": cni_version, "name": network, "plugins": [{"type": PLUGIN, "capabilities": CAPABILITIES}]}


def remove(network: str | None = None, bin_dir: Path = BIN_DIR, conf_dir: Path = CONF_DIR) -> None:
    """Remove a network's configuration, or without a network the launcher. What is gone already is fine."""
    path = bin_dir / PLUGIN if network is None else _conflist_path(network, conf_dir)
    path.unlink(missing_ok=True)


def _conflist_path(network: str, conf_dir: Path) -> Path:
    if not _NETWORK.fullmatch(network):
        raise ValueError(
            f"{network!r} must start with a letter or digit and hold only letters, digits, '_', '.' and '-'"
        )
    return conf_dir / f"10-overlayd-{network}.conflist"


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file in one step: some runtimes watch the directory and notice only a rename inside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.chmod(mode)
    temporary.replace(path)


def main() -> int:
    """Run ``python -m cni.install [--remove] [NETWORK …]``; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cni.install", description="Install the CNI plugin.")
    parser.add_argument("network", nargs="*", help="networks to write a configuration list for")
    parser.add_argument("--remove", action="store_true", help="remove instead")
    parser.add_argument("--interpreted", action="store_true", help="install the Python launcher, not the native one")
    parser.add_argument("--bin-dir", type=Path, default=BIN_DIR)
    parser.add_argument("--conf-dir", type=Path, default=CONF_DIR)
    options = parser.parse_args()
    try:
        if options.remove:
            for network in (*options.network, None):
                remove(network, options.bin_dir, options.conf_dir)
            return 0
        sys.stdout.write(f"{install_plugin(options.bin_dir, interpreted=options.interpreted)}\n")
        for network in options.network:
            sys.stdout.write(f"{install_network(network, options.conf_dir)}\n")
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cannot install: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
