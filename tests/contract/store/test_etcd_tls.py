"""An etcd store over TLS: each side wants to see the other's certificate."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controller.clock import SystemClock
from controller.store.etcd.cluster import Certificates, parse_url
from controller.store.etcd.cluster import EtcdCluster as Address
from controller.store.etcd.store import EtcdStore
from controller.store.port import Committed, PutKey, StoreUnavailable, Transaction
from tests.support.controllers.etcd import EtcdCluster

pytestmark = pytest.mark.anyio


def issue(directory: Path, name: str) -> Certificates:
    """Write a new authority, and a certificate of it with its key that is good for either side."""
    now, keys = datetime.now(UTC), [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    certificates = []
    for key, common_name in zip(keys, (name, "localhost"), strict=True):
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=common_name == name, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        )
        certificates.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    key_text = keys[1].private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    files = [directory / f"{name}-{part}.pem" for part in ("ca", "cert", "key")]
    for file, content in zip(files, (*certificates, key_text), strict=True):
        file.write_bytes(content)
    return Certificates(*files)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue(tmp_path_factory.mktemp("tls"), "ours")


@pytest.fixture(scope="module")
def cluster(files: Certificates) -> Iterator[EtcdCluster]:
    flags = ("--cert-file", str(files.certificate), "--key-file", str(files.key))
    with EtcdCluster(1, flags, "https") as running:
        yield running


async def written(where: Address) -> object:
    store = EtcdStore(where, SystemClock())
    try:
        return await store.commit(Transaction((), (PutKey("/t/x", b"1"),)))
    finally:
        await store.close()


async def test_a_store_is_used_over_tls(cluster: EtcdCluster, files: Certificates) -> None:
    where = parse_url(cluster.url, files, None, "--store")
    assert isinstance(await written(where), Committed)
    store = EtcdStore(where, SystemClock())
    watch = store.watch("/t/", await store.current_revision())
    put = await store.commit(Transaction((), (PutKey("/t/y", b"2"),)))
    async with asyncio.timeout(10):
        assert (await anext(watch)).revision == put.revision
    await store.close()


async def test_a_server_of_another_authority_is_not_believed(
    cluster: EtcdCluster, files: Certificates, tmp_path: Path
) -> None:
    stranger = issue(tmp_path, "strange")
    where = parse_url(cluster.url, replace(files, ca=stranger.ca), None, "--store")
    with pytest.raises(StoreUnavailable):
        await written(where)


async def test_a_server_that_wants_a_certificate_gets_ours_and_refuses_others(
    files: Certificates, tmp_path: Path
) -> None:
    flags = ("--cert-file", str(files.certificate), "--key-file", str(files.key))
    asking = ("--client-cert-auth", "--trusted-ca-file", str(files.ca))
    with EtcdCluster(1, (*flags, *asking), "https", client=files) as running:
        assert isinstance(await written(parse_url(running.url, files, None, "--store")), Committed)
        stranger = issue(tmp_path, "strange")
        other = replace(files, certificate=stranger.certificate, key=stranger.key)
        refused = [
            written(parse_url(running.url, shown, None, "--store"))
            for shown in (other, replace(files, certificate=None, key=None))
        ]
        outcomes = await asyncio.gather(*refused, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable, StoreUnavailable]
