"""The cluster's own certificate authority, which proves to hosts and people that they talk to a controller."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from secrets import token_hex

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from overlayd.wire.credentials import CONTROLLER_NAME, fingerprint

_AUTHORITY_LIFE = timedelta(days=20 * 365)
"""Hosts keep the certificate for as long as they live."""

_SERVER_LIFE = timedelta(days=90)
"""A running controller makes a new one long before."""

_BACKDATE = timedelta(days=1)
"""How far behind the clock of a client may be."""

_DNS_NAME_MAX = 253


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate (followed by those that lead to its root) and its private key, both in PEM form."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: `certificate` is what clients trust, `key` what signs; both in PEM form."""

    certificate: str
    key: str = field(repr=False)

    @classmethod
    def create(cls, now: datetime) -> "Authority":
        """Make a new authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        # The name tells two clusters apart, for a client that trusts both.
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"overlayd {token_hex(4)}")])
        builder = (
            _builder(name, name, key.public_key(), now, _AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))

    @property
    def fingerprint(self) -> str:
        """What identifies the authority: 64 hexadecimal digits."""
        return fingerprint(self.certificate)

    def check(self) -> None:
        """Raise `ValueError` when this is no authority, or the key is not its own."""
        certificate, key = self._loaded()
        if certificate.public_key() != key.public_key():
            raise ValueError("the key of the certificate authority does not belong to its certificate")

    def issue(self, names: Iterable[str], addresses: Iterable[IPv4Address | IPv6Address], now: datetime) -> Issued:
        """Return a certificate for a controller that goes by these names and addresses, and by `CONTROLLER_NAME`.

        A name that no certificate can hold is left out.
        """
        certificate, key = self._loaded()
        own = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CONTROLLER_NAME)])
        wanted = dict.fromkeys([CONTROLLER_NAME, *filter(_is_dns_name, names)])
        alternatives = [*map(x509.DNSName, wanted), *map(x509.IPAddress, dict.fromkeys(addresses))]
        builder = (
            _builder(subject, certificate.subject, own.public_key(), now, _SERVER_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )
        return Issued(_pem(builder.sign(key, hashes.SHA256())), _key_pem(own))

    def _loaded(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate.encode())
            key = serialization.load_pem_private_key(self.key.encode(), password=None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(f"the certificate authority cannot be read: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the certificate authority's key is none of ours")  # noqa: TRY004 - what is stored, not a type
        return certificate, key


def utc(seconds: float) -> datetime:
    """Return the moment this many seconds after 1970 (UTC)."""
    return datetime.fromtimestamp(seconds, UTC)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + life)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    """Return the key usage of a certificate: to sign certificates, or the TLS handshakes of a server."""
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _is_dns_name(name: str) -> bool:
    return 1 <= len(name) <= _DNS_NAME_MAX and name.isascii() and name.isprintable() and " " not in name


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
