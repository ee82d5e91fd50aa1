"""Are the connections that are encrypted also made to those they are meant for?"""

from collections.abc import Iterator

from tasks import tls as broker_tls
from worker import settings, tls
from worker.health.finding import Area, Finding, Verdict


def of_database(chosen: settings.Settings) -> Iterator[Finding]:
    """Judge how PostgreSQL's certificate is checked, if it has to show one.

    Raises:
        InvalidSettings: DATABASE_URL can not be used.
    """
    match tls.mode_of(chosen.database_options().url):
        case None:
            return
        case "verify-full":
            yield _ok(Area.database, "TLS", "certificate and name are checked")
        case mode:
            unchecked = "nobody checks whose certificate it is"
            if mode == "verify-ca":
                unchecked = "any server with a certificate of that CA is taken for it"
            what = "write sslmode=verify-full&sslrootcert=FILE in DATABASE_URL"
            yield _warn(Area.database, "TLS", f"encrypted, but {unchecked}", what)


def of_broker(chosen: settings.Settings) -> Iterator[Finding]:
    """Judge the same of each Redis, or RabbitMQ, that is named by itself."""
    for variable, given in (
        ("BROKER_URL", chosen.broker_url),
        ("BILLING_RESULT_BACKEND", chosen.result_backend),
        ("BILLING_USAGE_STREAM_URL", chosen.usage_stream_url),
    ):
        if given is None:
            continue
        try:
            found = broker_tls.check(given.get_secret_value())
        except broker_tls.InvalidTls:
            continue  # said of the settings
        if found.options is None:
            continue
        subject = f"TLS of {variable}"
        if found.is_verified:
            yield _ok(Area.broker, subject, "certificate and name are checked")
        else:
            what = f"write ssl_ca_certs=FILE and not ssl_cert_reqs=none in {variable}"
            detail = "encrypted, but nobody checks whose certificate it is"
            yield _warn(Area.broker, subject, detail, what)


def remedy(error: BaseException, word: str) -> str:
    """Return what to do about a server whose certificate was refused; nothing for other errors.

    Args:
        word: where its CA is named.
    """
    if "certificate verify failed" not in str(error):
        return ""
    return f"give the CA that signed its certificate, as {word}; or it is not the server you meant"


def _ok(area: Area, subject: str, detail: str) -> Finding:
    return Finding(area, subject, Verdict.ok, detail)


def _warn(area: Area, subject: str, detail: str, what: str) -> Finding:
    return Finding(area, subject, Verdict.warn, detail, what)
