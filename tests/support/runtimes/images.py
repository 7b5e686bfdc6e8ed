"""The image of the tests' containers: one program that waits for a signal."""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

PAUSE = "/pause"
"""The program's place in a container."""

IMAGE = "overlayd.test/pause:1"

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def root_filesystem(directory: Path) -> Path:
    """Make a container's root directory that holds nothing but the program; return it."""
    directory.mkdir()
    program = directory / PAUSE.strip("/")
    source = Path(__file__).with_name("pause.c")
    options = ["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Os", "-static", "-s", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *options, "-o", str(program), str(source)], check=True)
    return directory


def archive(root: Path, path: Path) -> Path:
    """Write an image of this root directory as a tar file that runtimes import (OCI image layout); return its path."""
    blobs: dict[str, bytes] = {}

    def blob(kind: str, content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    layer = blob(_LAYER, _tar({PAUSE.strip("/"): (root / PAUSE.strip("/")).read_bytes()}, mode=0o755))
    machine = platform.machine()
    config = {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Entrypoint": [PAUSE]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": blob(_CONFIG, _json(config)), "layers": [layer]}
    name = {"io.containerd.image.name": IMAGE}
    index = {"schemaVersion": 2, "manifests": [blob(_MANIFEST, _json(manifest)) | {"annotations": name}]}
    layout = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
    path.write_bytes(_tar(layout | blobs))
    return path


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return written.getvalue()
