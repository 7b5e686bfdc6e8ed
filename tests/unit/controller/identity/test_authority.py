"""The certificate authority: OpenSSL's own verification accepts what it issues, and nothing else."""

import socket
import ssl
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from cryptography import x509

from controller.identity.authority import Authority, Issued
from overlayd.wire.credentials import CONTROLLER_NAME

NOW = datetime.now(UTC)


def shake_hands(trusted: str, issued: Issued, name: str, directory: Path) -> None:
    """Connect a client that trusts an authority to a server with a certificate; raise `ssl.SSLError` if it does not."""
    (directory / "own.pem").write_text(issued.key + issued.certificate)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(directory / "own.pem")
    client_context = ssl.create_default_context(cadata=trusted)
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            with server_context.wrap_socket(there, server_side=True):
                pass
        except (ssl.SSLError, OSError):
            there.close()

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        with here, client_context.wrap_socket(here, server_hostname=name):
            pass
    finally:
        serving.join()


@pytest.mark.parametrize("name", [CONTROLLER_NAME, "rack1-01", "10.0.0.1", "fd00::1"])
def test_every_name_of_the_controller_is_verified(tmp_path: Path, name: str) -> None:
    authority = Authority.create(NOW)
    issued = authority.issue(["rack1-01"], [IPv4Address("10.0.0.1"), IPv6Address("fd00::1")], NOW)
    shake_hands(authority.certificate, issued, name, tmp_path)


def test_another_name_or_another_authority_is_not(tmp_path: Path) -> None:
    authority, other = Authority.create(NOW), Authority.create(NOW)
    issued = authority.issue([], [], NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(authority.certificate, issued, "rack1-01", tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(other.certificate, issued, CONTROLLER_NAME, tmp_path)


def test_a_controllers_certificate_issues_no_other(tmp_path: Path) -> None:
    authority = Authority.create(NOW)
    server = authority.issue([], [], NOW)
    forged = Authority(server.certificate, server.key).issue(["evil"], [], NOW)
    chain = Issued(forged.certificate + server.certificate, forged.key)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(authority.certificate, chain, "evil", tmp_path)


def test_a_certificate_ends_and_begins_in_the_past(tmp_path: Path) -> None:
    authority = Authority.create(NOW - timedelta(days=400))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(
            authority.certificate, authority.issue([], [], NOW - timedelta(days=100)), CONTROLLER_NAME, tmp_path
        )
    ahead = authority.issue([], [], NOW + timedelta(hours=23))
    shake_hands(authority.certificate, ahead, CONTROLLER_NAME, tmp_path)


def test_the_fingerprint_is_the_one_that_openssl_prints() -> None:
    authority = Authority.create(NOW)
    command = ["openssl", "x509", "-noout", "-fingerprint", "-sha256"]
    done = subprocess.run(command, input=authority.certificate, capture_output=True, text=True, check=True)
    printed = done.stdout.strip().partition("=")[2]
    assert authority.fingerprint == printed.replace(":", "").lower()


def test_names_that_no_certificate_can_hold_are_left_out() -> None:
    names = ["", "bücher", "two words", "x" * 300, CONTROLLER_NAME, "good.example"]
    issued = Authority.create(NOW).issue(names, [], NOW)
    extensions = x509.load_pem_x509_certificate(issued.certificate.encode()).extensions
    found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert found == [CONTROLLER_NAME, "good.example"]


def test_a_key_of_another_is_noticed() -> None:
    authority, other = Authority.create(NOW), Authority.create(NOW)
    authority.check()
    with pytest.raises(ValueError, match="does not belong"):
        replace(authority, key=other.key).check()
    with pytest.raises(ValueError, match=r".+"):
        replace(authority, certificate="rubbish").check()


def test_no_key_is_shown_by_accident() -> None:
    authority = Authority.create(NOW)
    issued = authority.issue([], [], NOW)
    assert "PRIVATE KEY" not in f"{authority!r} {issued!r}"
