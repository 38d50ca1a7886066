"""The certificate that a process makes for itself: nobody signs it, and proofs of the token are bound to it.

It encrypts connections beyond this machine where no certificates are configured. TLS itself does not say who is at the
other end; the proof does, which covers the digest of the certificate (see `headrace.comm.opening.opening_states`).
"""

from __future__ import annotations

import contextlib
import datetime
import os
import ssl
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256

#: Days for which certificates are valid that this process makes.
DAYS = 365


def self_signed(name: str) -> tuple[str, str]:
    """A new certificate, signed with its own key, that may be checked against itself; and the key; both as PEM text.

    Raises:
        ImportError: the package `cryptography` is not installed.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError:
        raise ImportError("certificates are made with the package cryptography: pip install cryptography") from None
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), key_text.decode()


@contextlib.contextmanager
def as_file(text: str) -> Iterator[str]:
    """A file with a text, for this process or user alone and for a moment: `ssl` reads keys from files only."""
    in_memory = _in_memory(text)
    if in_memory is not None:
        try:
            yield f"/proc/self/fd/{in_memory}"
        finally:
            os.close(in_memory)
        return
    handle, path = tempfile.mkstemp(suffix=".pem")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
        yield path
    finally:
        os.unlink(path)


def _in_memory(text: str) -> int | None:
    """The descriptor of a file with a text that has no name on disk, where a process that is killed would leave it.

    None where the system has no such files.
    """
    if not hasattr(os, "memfd_create"):
        return None
    try:
        descriptor = os.memfd_create("certificate")
    except OSError:  # a sandbox forbids it
        return None
    try:
        with os.fdopen(os.dup(descriptor), "w", encoding="ascii") as file:
            file.write(text)
        if os.path.exists(f"/proc/self/fd/{descriptor}"):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


@lru_cache
def listening() -> tuple[ssl.SSLContext, bytes]:
    """The context with which this process answers, and the SHA-256 digest of its certificate.

    Raises:
        ImportError: the package `cryptography` is not installed.
    """
    certificate, key = self_signed("headrace")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with as_file(certificate + key) as path:
        context.load_cert_chain(path)
    return context, digest_of(ssl.PEM_cert_to_DER_cert(certificate))


@lru_cache
def connecting() -> ssl.SSLContext:
    """The context with which this process connects: any certificate will do, since the proof covers its digest."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def digest_of(certificate: bytes | None) -> bytes:
    """The SHA-256 digest of a certificate in DER."""
    return sha256(certificate or b"").digest()
