"""A RabbitMQ of a test's own, where one is installed: on loopback, in a folder, gone afterwards."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from kombu.connection import Connection

from tests.processes import SECONDS, eventually, free_port

# Debian's program in /usr/sbin wants to be another user; what it calls does not.
PLACES = (
    *sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server")),
    *sorted(Path("/opt").glob("rabbitmq*/sbin/rabbitmq-server")),
)


def program() -> Path | None:
    """Where RabbitMQ is; None if it is not here."""
    found = shutil.which("rabbitmq-server")
    return next(iter(PLACES), Path(found) if found else None)


class RabbitMQ:
    """A node that runs."""

    def __init__(self, folder: Path) -> None:
        """Start it; it keeps everything in the folder."""
        started = program()
        assert started is not None
        self.port, distribution, self._epmd = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        (folder / "plugins").write_text("[].\n")
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "RABBITMQ_NODENAME": "billing-test@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # It may be ended although it has not noticed yet that its node was.
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none"
            ),
        }
        self._started, self._log = started, folder / "rabbitmq.log"
        self.start()

    def start(self) -> None:
        """Start it on what it kept, and wait until it answers."""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [str(self._started)],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(lambda: self.answers() or self._process.poll() is not None)
        assert self._process.poll() is None, self._log.read_text()[-2_000:]

    def answers(self) -> bool:
        """Tell whether it takes connections."""
        try:
            with Connection(self.url, connect_timeout=2) as connection:  # type: ignore[no-untyped-call]
                connection.ensure_connection(max_retries=1, timeout=2)
                return True
        except OSError:
            return False
        except Exception:  # noqa: BLE001 (kombu's own, while the node boots)
            return False

    def queues(self) -> list[list[str]]:
        """Each queue's name, whether it is durable, whether exclusive, its type and arguments."""
        columns = ("name", "durable", "exclusive", "type", "arguments")
        listed = subprocess.run(
            [str(self._started.with_name("rabbitmqctl")), "--quiet", "--no-table-headers",
             "--node", self._environment["RABBITMQ_NODENAME"], "list_queues", *columns],
            env=self._environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return [line.split("\t") for line in listed.stdout.splitlines()]

    def kill(self) -> None:
        """`kill -9`, as a machine that loses power."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(SECONDS)

    def close(self) -> None:
        """End it, and the little server by which its nodes find one another."""
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        subprocess.run(["epmd", "-kill"], env=self._environment, capture_output=True, check=False)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[RabbitMQ]:
    """Run one for as long as the block does."""
    node = RabbitMQ(folder)
    try:
        yield node
    finally:
        node.close()
