"""A cluster with TLS and tokens, as it is installed: hosts join, containers talk, and a refused host goes on."""

from pathlib import Path

from tests.support.lab import Lab


def test_hosts_join_and_containers_talk(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab", hosts=2, secure=True) as lab:
        lab.start_controller()
        for host in lab.hosts:
            host.start_agent()
        lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
        here, there = (host.attach(f"c-{host.name}", "blue") for host in lab.hosts)
        lab.in_force(here, there)
        assert here.ping(there.address) is not None
        assert lab.hosts[0].run("stat", "-c", "%a", "/var/lib/overlayd/credential.json") == "600\n"
