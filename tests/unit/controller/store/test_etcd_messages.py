"""The messages of etcd are those of rpc.proto."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
PACKAGE = Path("controller/store/etcd")


def test_the_generated_messages_are_up_to_date(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", "--proto_path=.", f"--python_out={tmp_path}"]
    subprocess.run([*command, f"--pyi_out={tmp_path}", str(PACKAGE / "rpc.proto")], cwd=ROOT, check=True)
    for name in ("rpc_pb2.py", "rpc_pb2.pyi"):
        assert (tmp_path / PACKAGE / name).read_text() == (ROOT / PACKAGE / name).read_text(), "run `make proto`"
