"""Who may use a cluster: its token, or certificates per role, which may be made for as long as a process lives.

Certificates and keys are file names, or their PEM text (told apart by a line break).
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

from headrace.auth.access_rules import AccessRules, configured_auth, configured_encryption
from headrace.auth.own_certificate import as_file, self_signed
from headrace.auth.token_places import find_tokens, read_token_file
from headrace.auth.tokens import Tokens, parse_tokens
from headrace.common.display.html import card, code, table

_ROLES = ("client", "scheduler", "worker")
#: attribute -> key of the configuration
_FIELDS = {
    "tls_ca_file": "distributed.comm.tls.ca-file",
    "tls_ciphers": "distributed.comm.tls.ciphers",
    "tls_client_cert": "distributed.comm.tls.client.cert",
    "tls_client_key": "distributed.comm.tls.client.key",
    "tls_max_version": "distributed.comm.tls.max-version",
    "tls_min_version": "distributed.comm.tls.min-version",
    "tls_scheduler_cert": "distributed.comm.tls.scheduler.cert",
    "tls_scheduler_key": "distributed.comm.tls.scheduler.key",
    "tls_worker_cert": "distributed.comm.tls.worker.cert",
    "tls_worker_key": "distributed.comm.tls.worker.key",
}
#: Keywords that are not about certificates.
_ACCESS = ("token", "token_file", "auth", "encryption")
_VERSIONS = {1.2: ssl.TLSVersion.TLSv1_2, 1.3: ssl.TLSVersion.TLSv1_3}


class Security:
    """The token, or the certificates, that the parts of a cluster use with each other.

    Args:
        require_encryption: whether to refuse connections that are not encrypted. By default as configured; if that is
            open, true if any keyword about TLS is given: certificates in the configuration alone allow encryption, and
            do not require it.
        tls_ca_file: certificate of the authority that has to have signed all others.
        tls_client_cert, tls_client_key: certificate and key of clients; likewise `tls_scheduler_…` and `tls_worker_…`.
        tls_ciphers: OpenSSL's list of allowed ciphers, for TLS 1.2.
        tls_min_version, tls_max_version: 1.2, 1.3 or an `ssl.TLSVersion`; None for 1.2, and for no upper bound.
        token: the secret that whoever belongs to the cluster holds, or two of them, with a comma.
        token_file: a file with it, one token a line, that its owner alone may read.
        auth: "token" or "none", see `headrace.auth.access_rules`; by default as configured (`distributed.comm.auth`).
        encryption: "auto", "off" or "required", of connections without certificates; by default as configured.
        extra_conn_args: further keywords for making connections.

    Arguments that are not given come from the configuration (`distributed.comm.tls`); None overrides it.

    Raises:
        TypeError: a keyword is unknown.
        ValueError: a TLS version is not supported.
    """

    __slots__ = (
        "auth",
        "encryption",
        "extra_conn_args",
        "require_encryption",
        "scheduler_file",
        "tls_ca_file",
        "tls_ciphers",
        "tls_client_cert",
        "tls_client_key",
        "tls_max_version",
        "tls_min_version",
        "tls_scheduler_cert",
        "tls_scheduler_key",
        "tls_worker_cert",
        "tls_worker_key",
        "token",
        "token_file",
    )

    tls_ca_file: str | None
    tls_ciphers: str | None
    tls_min_version: ssl.TLSVersion
    tls_max_version: ssl.TLSVersion | None

    def __init__(self, require_encryption: bool | None = None, **kwargs: Any) -> None:
        from headrace.config import get, truth

        unknown = sorted(set(kwargs) - set(_FIELDS) - {"extra_conn_args", *_ACCESS})
        if unknown:
            known = ", ".join(sorted([*_FIELDS, *_ACCESS]))
            raise TypeError(f"Security has no keywords {', '.join(unknown)}; it has {known}")
        self.token: str | None = _token_text(kwargs.get("token"))
        self.token_file: str | None = kwargs.get("token_file")
        self.auth: str | None = kwargs.get("auth")
        self.encryption: str | None = kwargs.get("encryption")
        #: the file that told the scheduler's address, and perhaps its token; set by whoever reads it
        self.scheduler_file: str | None = None
        self.extra_conn_args: dict[str, Any] = dict(kwargs.get("extra_conn_args") or {})
        for name, key in _FIELDS.items():
            value = kwargs[name] if name in kwargs else get(key)
            if name.endswith("_version"):
                value = _version(name, value)
            setattr(self, name, value)
        if self.tls_min_version is None:
            self.tls_min_version = ssl.TLSVersion.TLSv1_2
        if require_encryption is None and get("distributed.comm.require-encryption") is not None:
            require_encryption = truth("distributed.comm.require-encryption")
        if require_encryption is None:
            require_encryption = not kwargs.keys() <= {"extra_conn_args", *_ACCESS}
        self.require_encryption = bool(require_encryption)

    @staticmethod
    def setting(name: str) -> str:
        """The configuration's key for a keyword."""
        return _FIELDS[name]

    @classmethod
    def temporary(cls, **kwargs: Any) -> Security:
        """Settings with a new self-signed certificate, held in memory, for all roles.

        Raises:
            ImportError: the package `cryptography` is not installed.
        """
        certificate, key = self_signed("headrace-temporary")
        values: dict[str, Any] = {
            "require_encryption": True,
            "tls_ca_file": certificate,
            **{f"tls_{role}_cert": certificate for role in _ROLES},
            **{f"tls_{role}_key": key for role in _ROLES},
        }
        return cls(**(values | kwargs))

    def get_tls_config_for_role(self, role: str) -> dict[str, Any]:
        """`ca_file`, `ciphers`, `cert` and `key` of "client", "scheduler" or "worker"."""
        _check_role(role)
        return {
            "ca_file": self.tls_ca_file,
            "ciphers": self.tls_ciphers,
            "cert": getattr(self, f"tls_{role}_cert"),
            "key": getattr(self, f"tls_{role}_key"),
        }

    def get_connection_args(self, role: str) -> dict[str, Any]:
        """Keywords of `connect` for a role."""
        return {
            "ssl_context": self._context(role, ssl.Purpose.SERVER_AUTH),
            "require_encryption": self.require_encryption,
            "extra_conn_args": self.extra_conn_args,
            "access_rules": self.access_rules(role),
        }

    def get_listen_args(self, role: str) -> dict[str, Any]:
        """Keywords of `listen` for a role."""
        return {
            "ssl_context": self._context(role, ssl.Purpose.CLIENT_AUTH),
            "require_encryption": self.require_encryption,
            "access_rules": self.access_rules(role),
        }

    def access_rules(self, role: str) -> AccessRules:
        """How a "client", "worker", "nanny" or "scheduler" opens its connections.

        Raises:
            ValueError: a setting is none of the values that there are.
        """
        return AccessRules(
            role,
            configured_auth() if self.auth is None else self.auth,
            configured_encryption() if self.encryption is None else self.encryption,
            self.tokens,
        )

    def in_force(self, role: str) -> dict[str, str]:
        """What others may know of how a role opens connections: `auth` ("token", "none") and `encryption`.

        `encryption` is "certificates" where both ends need one of the same authority.
        """
        rules = self.access_rules(role)
        return {"auth": rules.auth, "encryption": "certificates" if self.require_encryption else rules.encryption}

    def tokens(self) -> Tokens:
        """The tokens of whoever uses this: those given, else those found (see `headrace.auth.token_places`).

        Raises:
            ValueError, OSError: the file, or the setting, is not as it should be.
        """
        if self.token is not None:
            return parse_tokens(self.token.replace(",", "\n"), "Security(token=…)")
        return find_tokens(self.scheduler_file) if self.token_file is None else read_token_file(self.token_file)

    def _context(self, role: str, purpose: ssl.Purpose) -> ssl.SSLContext | None:
        """A context with which both ends must have a certificate of the authority; None if no certificates are set.

        Raises:
            ValueError: the settings of the role are incomplete. (Without this error, connections that the user wants
                encrypted would silently not be.)
            OSError: a file cannot be read, or is no certificate.
        """
        config = self.get_tls_config_for_role(role)
        authority, certificate, key = config["ca_file"], config["cert"], config["key"]
        if not (certificate or key):  # an authority alone says what others must have
            return None
        self._check_whole(role)
        try:
            if _is_pem(authority):
                context = ssl.create_default_context(purpose=purpose, cadata=authority)
            else:
                context = ssl.create_default_context(purpose=purpose, cafile=authority)
            context.verify_mode = ssl.CERT_REQUIRED
            # Workers come and go at any address: only the authority's signature counts.
            context.check_hostname = False
            with _as_file(certificate) as certificate_file, _as_file(key) as key_file:
                context.load_cert_chain(str(certificate_file), key_file)
        except OSError as error:
            raise type(error)(f"cannot use the TLS certificates of role {role!r}: {error}") from error
        context.minimum_version = self.tls_min_version
        if self.tls_max_version is not None:
            context.maximum_version = self.tls_max_version
        if config["ciphers"]:
            context.set_ciphers(config["ciphers"])
        return context

    def _check_whole(self, role: str) -> None:
        names = ["tls_ca_file", f"tls_{role}_cert", f"tls_{role}_key"]
        there = [name for name in names if getattr(self, name)]
        missing = [name for name in names if name not in there]
        if missing == names[2:] and _holds_key(getattr(self, names[1])):
            return
        if missing:
            keys = ", ".join(_FIELDS[name] for name in missing)
            raise ValueError(
                f"TLS is configured by half for the role {role!r}: there is {' and '.join(there)}, but no "
                f"{' and '.join(missing)}. Give all (in Security; by --tls-ca-file, --tls-cert and --tls-key; or in "
                f"the configuration, {keys}), or nothing of it"
            )

    def __repr__(self) -> str:
        return f"Security({', '.join(f'{name}={text}' for name, text in self._shown().items())})"

    def _repr_html_(self) -> str:
        return card(
            "Security", table(["Setting", "Value"], [[name, code(text)] for name, text in self._shown().items()])
        )

    def _shown(self) -> dict[str, str]:
        """The settings as text, without certificates and keys themselves, which must not get into logs."""
        shown = {}
        for name in ("require_encryption", *_FIELDS):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, str) and _is_pem(value):
                shown[name] = "Temporary (In-memory)"
            elif isinstance(value, ssl.TLSVersion):
                shown[name] = str(int(value))
            else:
                shown[name] = repr(value)
        return shown


def _version(name: str, value: float | str | ssl.TLSVersion | None) -> ssl.TLSVersion | None:
    if value is None or isinstance(value, ssl.TLSVersion):
        return value
    try:
        return _VERSIONS[float(value)]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{name} can be 1.2 or 1.3, not {value!r}") from None


def _check_role(role: str) -> None:
    if role not in _ROLES:
        raise ValueError(f"unknown role {role!r}: it can be {', '.join(_ROLES)}")


def _holds_key(certificate: str) -> bool:
    """Whether a certificate's text or file has a private key, too; true if it cannot be read: `ssl` raises then."""
    if not _is_pem(certificate):
        try:
            with open(certificate) as file:
                certificate = file.read()
        except (OSError, UnicodeDecodeError):
            return True
    return "PRIVATE KEY-----" in certificate


def _is_pem(text: str) -> bool:
    return "\n" in text


def _as_file(value: str | None) -> contextlib.AbstractContextManager[str | None]:
    """The name of a file with a certificate or key: `ssl` reads these from files only."""
    return as_file(value) if value is not None and _is_pem(value) else contextlib.nullcontext(value)


def _token_text(given: Any) -> str | None:
    """A token, or two, as one text; None for none.

    Raises:
        ValueError, TypeError: it cannot be a token; the message does not show it.
    """
    if given is None:
        return None
    if not isinstance(given, str):
        if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
            raise TypeError(f"Security(token=…) takes text, or a list of two, not {type(given).__name__}")
        given = ",".join(given)
    parse_tokens(given.replace(",", "\n"), "Security(token=…)")
    return str(given)
