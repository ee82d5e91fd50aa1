"""How a broker's URL says that the connection is encrypted, and whose certificate it takes.

`rediss://…` and `amqps://…`, with `?ssl_ca_certs=FILE` where the server's certificate is of a CA of
one's own, and `&ssl_certfile=FILE&ssl_keyfile=FILE` where the server wants to see one of ours. The
libraries below read the same words differently: without any, kombu takes whatever certificate is
shown, Celery's results refuse the URL, redis-py checks. Here it is checked, unless the URL says
`ssl_cert_reqs=none`.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

REQUIRED: Final = "required"
UNCHECKED: Final = "none"

SECURE: Final[Mapping[str, str]] = {"redis": "rediss", "amqp": "amqps", "pyamqp": "amqps"}
"""How the encrypted twin of a URL begins."""

FILES: Final[tuple[str, ...]] = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

KNOWN: Final = ("ssl_cert_reqs", *FILES)


class InvalidTls(ValueError):
    """What a URL says of TLS can not be used. The message holds neither host nor password."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A URL whose words of TLS were understood.

    Args:
        url: as the libraries read it: of a Redis with the words, of RabbitMQ without.
        options: what Celery's `broker_use_ssl` wants beside it; None without TLS.
        is_verified: whether the server's certificate is checked, and that it is of its name.
    """

    url: str
    options: Mapping[str, Any] | None = None
    is_verified: bool = False


def check(url: str) -> Checked:
    """Return a broker's URL as the libraries are to have it.

    Raises:
        InvalidTls: it says something else than what it would do, or names a file that is not there.
    """
    parts = urlsplit(url)
    words = dict(parse_qsl(parts.query))
    said = {name: value for name, value in words.items() if name.startswith("ssl")}
    scheme = parts.scheme.partition("+")[0]
    if scheme not in SECURE.values():
        if said and scheme in SECURE:
            raise InvalidTls(
                f"has {min(said)} and begins with {scheme}://, which is not encrypted; write "
                f"{SECURE[scheme]}://"
            )
        return Checked(url)
    demand = _demand(said)
    files = {name: said[name] for name in FILES if name in said}
    _require_usable(demand, files)
    other = {name: value for name, value in words.items() if name not in said}
    if scheme == "amqps":
        bare = parts._replace(query=urlencode(other)).geturl()
        return Checked(bare, _for_amqp(demand, files), demand == REQUIRED)
    full = parts._replace(query=urlencode({**other, "ssl_cert_reqs": demand, **files})).geturl()
    return Checked(full, {"ssl_cert_reqs": _mode(demand), **files}, demand == REQUIRED)


def _demand(said: Mapping[str, str]) -> str:
    for name in said:
        if name not in KNOWN:
            raise InvalidTls(f"has {name}; what can be said of TLS is {', '.join(KNOWN)}")
    demand = said.get("ssl_cert_reqs", REQUIRED).lower().removeprefix("cert_")
    if demand not in {REQUIRED, UNCHECKED}:
        raise InvalidTls(
            f"has ssl_cert_reqs={demand}; write {REQUIRED}, which holds without it, or "
            f"{UNCHECKED}, which takes anybody's certificate"
        )
    return demand


def _require_usable(demand: str, files: Mapping[str, str]) -> None:
    if demand == UNCHECKED and "ssl_ca_certs" in files:
        raise InvalidTls(
            f"has ssl_ca_certs and ssl_cert_reqs={UNCHECKED}, which does not look at it; leave out "
            "one of them"
        )
    if "ssl_keyfile" in files and "ssl_certfile" not in files:
        raise InvalidTls("has ssl_keyfile and no ssl_certfile that the key is of")
    for name, path in files.items():
        require_file(name, path)
    if "ssl_ca_certs" in files:
        require_certificates("ssl_ca_certs", files["ssl_ca_certs"])


def require_file(name: str, path: str) -> None:
    """Refuse a file that is not there, or that we may not read. Raises InvalidTls."""
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise InvalidTls(f"has {name}={path}, which can not be read: {error.strerror}") from None


def require_certificates(name: str, path: str) -> None:
    """Refuse a file that is there and holds no certificate. Raises InvalidTls."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise InvalidTls(f"has {name}={path}, which holds no certificate in PEM") from None


def _mode(demand: str) -> ssl.VerifyMode:
    return ssl.CERT_REQUIRED if demand == REQUIRED else ssl.CERT_NONE


def _for_amqp(demand: str, files: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {name.removeprefix("ssl_"): path for name, path in files.items()} | {
        "cert_reqs": _mode(demand)
    }
    if demand == REQUIRED:
        # kombu puts the host's name in its place; only then is it compared with the certificate.
        options["server_hostname"] = None
    return options
