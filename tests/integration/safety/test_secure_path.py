"""A cluster with TLS and tokens, as it is installed: hosts join, containers talk, and a refused host goes on."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab.lab import COMMANDS, CONTROLLER, CommandFailed, Lab, LabHost
from tests.support.lab.processes import eventually


@pytest.fixture
def secure_lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab", hosts=2, secure=True) as lab:
        lab.start_controller()
        for host in lab.hosts:
            host.start_agent("--log-level", "debug")
        yield lab


def credential_of(host: LabHost) -> str:
    return str(json.loads(host.credential.read_text())["token"])


def problems_of(host: LabHost) -> str:
    status = host.agent_status()
    return json.dumps(status["problems"]) if status else ""


ASK = """
import http.client, ssl, sys
api = http.client.HTTPSConnection(sys.argv[1], 7471, context=ssl._create_unverified_context())
for path in ("/v1/networks", "/v1/hosts", "/v1/tokens", "/metrics"):
    api.request("GET", path)
    answer = api.getresponse()
    print(answer.status, answer.read().decode())
"""


def test_a_container_without_a_token_learns_nothing_from_the_controllers(secure_lab: Lab) -> None:
    secure_lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
    container = secure_lab.hosts[0].attach("curious", "blue")
    secure_lab.in_force(container)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    answers = container.run(*nobody, sys.executable, "-c", ASK, CONTROLLER).splitlines()
    assert [answer.partition(" ")[0] for answer in answers] == ["401"] * 4
    assert "blue" not in "".join(answers)


def test_hosts_join_and_containers_talk(secure_lab: Lab) -> None:
    secure_lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
    here, there = (host.attach(f"c-{host.name}", "blue") for host in secure_lab.hosts)
    secure_lab.in_force(here, there)
    assert here.ping(there.address) is not None
    for host in secure_lab.hosts:
        assert host.credential.stat().st_mode & 0o777 == 0o600
        assert host.agent
        assert "agent is up" in host.agent.output
        assert credential_of(host).split("_")[2] not in host.agent.output
        assert not [line for line in host.agent.output.splitlines() if "ovt_" in line or "ovj_" in line]


def test_a_host_whose_credential_is_revoked_says_so_and_traffic_goes_on(secure_lab: Lab) -> None:
    host, other = secure_lab.hosts
    secure_lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
    here, there = host.attach("here", "blue"), other.attach("there", "blue")
    secure_lab.in_force(here, there)
    secure_lab.overlayctl("token", "revoke", credential_of(host).split("_")[1])
    eventually(lambda: "revoked or used up" in problems_of(host), "the agent's status says that it is refused")
    assert here.ping(there.address) is not None
    late = host.attach("late", "blue")
    assert late.ping(there.address) is not None
    assert host.agent
    logged = [line for line in host.agent.output.splitlines() if "refuse this host's credential" in line]
    assert len(logged) == 1, "once, and not at every attempt"

    host.stop_agent()
    assert "joined as host" in host.join()
    host.start_agent()
    assert problems_of(host) == "[]"
    secure_lab.in_force(here, there, late)


def test_a_host_joins_again_only_with_a_token_of_its_own(secure_lab: Lab) -> None:
    host = secure_lab.hosts[0]
    before = host.credential.read_bytes()
    assert "has joined already" in host.join(), "as its credential is good"
    assert host.credential.read_bytes() == before
    place = "/var/lib/overlayd/credential.json"
    host.run("mv", place, f"{place}.away")
    with pytest.raises(CommandFailed, match="has joined already; a join token made for it"):
        host.join()
    host.run("mv", f"{place}.away", place)
    host_id = host.run("cat", "/var/lib/overlayd/host-id").strip()
    host.join("--host", host_id)
    assert host.credential.read_bytes() != before
    host.stop_agent()
    host.start_agent()


def test_an_agent_that_has_not_joined_says_what_to_do(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab", hosts=1, secure=True) as lab:
        host = lab.hosts[0]
        done = host.execute([str(COMMANDS / "overlayd"), "run"])
        assert done.returncode == 1
        assert "--controller: give at least one URL, or let the host join" in done.stderr
        done = host.execute([str(COMMANDS / "overlayd"), "run", "--controller", lab.urls[0]])
        assert done.returncode == 1
        assert "has not joined" in done.stderr
        done = host.execute([str(COMMANDS / "overlayd"), "join", lab.urls[0]])
        assert done.returncode == 1
        assert "--no-start: systemd does not run here: join with --no-start, and start" in done.stderr


def test_a_host_joins_by_itself_with_what_systemd_hands_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a machine made of an image: with the URL of a controller, and a join token for many."""
    handed = tmp_path / "credentials"
    handed.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(handed))
    with Lab(tmp_path / "lab", hosts=2, secure=True) as lab:
        lab.start_controller()
        (handed / "overlayd.join-token").write_text(lab.overlayctl("token", "create", "--join", "--hosts", "2"))
        joined = [str(COMMANDS / "overlayd"), "join", "--no-start", lab.urls[0]]
        done = lab.hosts[0].execute(joined, stdin=(handed / "overlayd.join-token").read_text())
        assert done.returncode == 0, done.stderr
        lab.hosts[0].run("rm", "/var/lib/overlayd/credential.json")  # as if it had not been written
        for host in lab.hosts:
            command = ["run", "--name", host.name, "--controller", lab.urls[0]]
            agent = lab.start("overlayd", command, host.directory / "agent.log", host.place)
            eventually(lambda: (host.agent_status() or {}).get("in_sync"), f"{host.name} is in sync")  # noqa: B023
            assert host.credential.stat().st_mode & 0o777 == 0o600
            agent.stop()
        tokens = json.loads(lab.overlayctl("token", "list", "--json"))
        assert [token["hosts"] for token in tokens if token["kind"] == "join"] == [0]
        host = lab.hosts[0]
        agent = lab.start("overlayd", ["run"], host.directory / "agent.log", host.place)
        eventually(lambda: (host.agent_status() or {}).get("in_sync"), "it needs the token no more")
        agent.stop()
        (handed / "overlayd.join-token").write_text("ovt_secret")
        done = lab.hosts[1].execute(["rm", "/var/lib/overlayd/credential.json"])
        done = lab.hosts[1].execute([str(COMMANDS / "overlayd"), "run", "--controller", lab.urls[0]])
        assert done.stderr.startswith("overlayd: overlayd.join-token: is no join token")
        assert "secret" not in done.stderr


@pytest.mark.parametrize("damage", ["", "{}", '{"controllers": [], "token": "ovt_x"}', "[" * 100])
def test_a_damaged_credential_is_named_and_not_repeated(tmp_path: Path, damage: str) -> None:
    with Lab(tmp_path / "lab", hosts=1, secure=True) as lab:
        host = lab.hosts[0]
        host.run("mkdir", "-p", "/var/lib/overlayd")
        host.run("sh", "-c", f"echo '{damage}' >/var/lib/overlayd/credential.json")
        done = host.execute([str(COMMANDS / "overlayd"), "run"])
        assert done.returncode == 1
        assert "/var/lib/overlayd/credential.json: the credential is damaged" in done.stderr
        assert len(done.stderr.splitlines()) == 1
