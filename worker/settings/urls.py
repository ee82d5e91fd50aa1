"""What the URL of a server says, and what is wrong with one."""

import ipaddress
from urllib.parse import urlsplit

from tasks import tls as broker_tls
from worker.settings.group import InvalidSettings

DEFAULT_PORTS = {
    "postgresql": 5432,
    "postgres": 5432,
    "redis": 6379,
    "rediss": 6379,
    "amqp": 5672,
    "amqps": 5671,
}


def is_redis(url: str) -> bool:
    """Tell whether a broker's URL is one of Redis (or Valkey), which also keeps answers."""
    return url.startswith(("redis://", "rediss://"))


def is_loopback(address: str) -> bool:
    """Tell whether only this machine reaches what listens on an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def address_of(url: str | None) -> str | None:
    """Return "host:port" of a server's URL; None if it names no host."""
    parts = urlsplit(url or "")
    port = parts.port or DEFAULT_PORTS.get(parts.scheme.partition("+")[0])
    if not parts.hostname or port is None:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"


def scheme(variable: str, url: str) -> str:
    """Return how a URL begins.

    Raises:
        InvalidSettings: it can not be read. It is not shown: it may hold a password.
    """
    try:
        parts = urlsplit(url)
        readable = bool(parts.scheme) and "://" in url and (parts.port is None or parts.port > 0)
    except ValueError:
        readable = False
    if not readable:
        raise InvalidSettings(
            f"{variable} can not be read as a URL, such as redis://:password@host:6379/0; what has "
            "a meaning in URLs is written with % in a password"
        )
    return parts.scheme


def checked(variable: str, url: str) -> broker_tls.Checked:
    """Return the URL of a broker or of answers, with what its connection needs for TLS.

    Raises:
        InvalidSettings: it asks for a TLS that can not be used.
    """
    try:
        return broker_tls.check(url)
    except broker_tls.InvalidTls as error:
        raise InvalidSettings(f"{variable} {error}") from None
