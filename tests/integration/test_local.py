"""The embedded servers, as processes: real starts, real kills."""

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from worker import local
from worker.local import accounts, guard, homes, process, refuges

pytestmark = pytest.mark.slow

GIVE_UP_SECONDS = 60.0
HOLD = """
import sys, time
from pathlib import Path
from worker import local
with local.running(Path(sys.argv[1]), fsync=False) as servers:
    print("ready", flush=True)
    time.sleep(600)
"""
FIND = """
import sys
from pathlib import Path
from worker import local
servers = local.find(Path(sys.argv[1]))
print(servers.database_url, servers.broker_url)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "servers of ours"
    yield path
    local.clear(path)


def connect(servers: local.Servers) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(servers.database_url.replace("+psycopg", ""))


def value(servers: local.Servers, statement: str) -> object:
    with connect(servers) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


@contextlib.contextmanager
def client(servers: local.Servers) -> Iterator[redis.Redis]:
    broker = redis.Redis.from_url(servers.broker_url)
    try:
        yield broker
    finally:
        broker.close()


@contextlib.contextmanager
def holding_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process of ours that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def server_pids(folder: Path) -> dict[str, int]:
    data = (folder / "data").resolve()
    found = {kind.name: guard.find_server(kind, data) for kind in guard.KINDS}
    return {name: pid for name, pid in found.items() if pid is not None}


def watcher_of(folder: Path) -> int:
    """The pid of the watcher, by the folder in its command line."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if os.fsencode(guard.__file__) in words and os.fsencode(folder) in words:
                return int(entry.name)
    raise AssertionError(f"no watcher of {folder}")


def await_that(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def listening_addresses(port: int) -> set[str]:
    """The local addresses that listen on a TCP port, IPv4 and IPv6, as the kernel tells."""
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        with contextlib.suppress(FileNotFoundError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                local_end, state = line.split()[1], line.split()[3]
                address, port_hex = local_end.split(":")
                if state == "0A" and int(port_hex, 16) == port:
                    words = [bytes.fromhex(address[i : i + 8]) for i in range(0, len(address), 8)]
                    packed = b"".join(word[::-1] for word in words)
                    found.add(socket.inet_ntop(family, packed))
    return found


def test_both_servers_answer_and_are_set_as_promised(folder: Path) -> None:
    with local.running(folder) as servers:
        assert value(servers, "SELECT current_database()") == "billing"
        assert str(value(servers, "SHOW server_version")).startswith("18")
        assert value(servers, "SHOW server_encoding") == "UTF8"
        assert value(servers, "SHOW timezone") == "UTC"
        assert value(servers, "SHOW fsync") == "on"
        assert value(servers, "SHOW synchronous_commit") == "on"
        with client(servers) as broker:
            settings = broker.config_get("*")
        assert settings["appendonly"] == "yes"
        assert settings["appendfsync"] == "everysec"
        assert settings["maxmemory-policy"] == "noeviction"
        assert settings["save"] == ""
    assert server_pids(folder) == {}


def test_data_outlives_a_restart(folder: Path) -> None:
    with local.running(folder, fsync=False) as servers:
        with connect(servers) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        with client(servers) as broker:
            broker.lpush("queue", "message")
    with local.running(folder, fsync=False) as servers:
        assert value(servers, "SELECT number FROM kept") == 7
        assert value(servers, "SHOW fsync") == "off"
        with client(servers) as broker:
            assert broker.lrange("queue", 0, -1) == [b"message"]


def test_the_password_is_asked_for_and_kept_private(folder: Path) -> None:
    with local.running(folder, fsync=False) as servers:
        password = (folder / "password").read_text()
        wrong = servers.database_url.replace("+psycopg", "").replace(password, "wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
        assert password not in repr(servers)
        for name in ("password", "servers.json", "postgres.log"):
            assert (folder / name).stat().st_mode & 0o077 == 0
        assert password not in (folder / "postgres.log").read_text()


def test_rows_are_not_quoted_in_the_log(folder: Path) -> None:
    with local.running(folder, fsync=False) as servers, connect(servers) as connection:
        connection.execute("CREATE TABLE secrets (body text UNIQUE)")
        for _ in range(2):
            with contextlib.suppress(psycopg.errors.UniqueViolation):
                connection.execute("INSERT INTO secrets VALUES (%s)", ["payload body"])
    log = (folder / "postgres.log").read_text()
    assert "duplicate key value" in log
    assert "payload body" not in log


def test_a_lost_password_is_replaced_and_the_data_stays(folder: Path) -> None:
    with local.running(folder, fsync=False) as servers, connect(servers) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    (folder / "password").unlink()
    with local.running(folder, fsync=False) as servers:
        assert value(servers, "SELECT number FROM kept") == 7


def test_nothing_listens_beyond_loopback(folder: Path) -> None:
    with local.running(folder, fsync=False) as servers:
        for url in (servers.database_url, servers.broker_url):
            port = int(url.rsplit(":", 1)[1].split("/")[0])
            assert listening_addresses(port) == {"127.0.0.1"}
        assert value(servers, "SHOW unix_socket_directories") == ""


def test_another_process_finds_the_servers_while_they_run(folder: Path) -> None:
    assert local.find(folder) is None
    with local.running(folder, fsync=False) as servers:
        answer = subprocess.run(
            [sys.executable, "-c", FIND, str(folder)], capture_output=True, text=True, check=True
        )
        assert answer.stdout.split() == [servers.database_url, servers.broker_url]
    assert local.find(folder) is None


def test_a_second_holder_is_told_who_holds_the_folder(folder: Path) -> None:
    with holding_process(folder) as process:
        with pytest.raises(local.AlreadyRunning) as refused, local.running(folder):
            pass
        with pytest.raises(local.AlreadyRunning):
            local.clear(folder)
        assert refused.value.pid == process.pid
        assert str(folder) in str(refused.value)
        assert str(process.pid) in str(refused.value)
        assert len(server_pids(folder)) == 2


def test_one_process_can_not_hold_a_folder_twice(folder: Path) -> None:
    with (
        local.running(folder, fsync=False) as servers,
        pytest.raises(local.AlreadyRunning),
        local.running(folder, fsync=False),
    ):
        pass
    assert servers is not None


def test_servers_stop_when_the_block_raises(folder: Path) -> None:
    pids = {}
    with contextlib.suppress(KeyboardInterrupt), local.running(folder, fsync=False):
        pids = server_pids(folder)
        raise KeyboardInterrupt
    assert len(pids) == 2
    assert all(is_gone(pid) for pid in pids.values())
    assert local.find(folder) is None


def test_servers_are_outside_the_process_group_that_ctrl_c_reaches(folder: Path) -> None:
    with local.running(folder, fsync=False):
        groups = {os.getpgid(pid) for pid in server_pids(folder).values()}
        assert len(groups) == 2
        assert os.getpgrp() not in groups
        assert os.getpgid(watcher_of(folder)) != os.getpgrp()


def test_a_killed_holder_leaves_no_server_and_its_successor_starts(folder: Path) -> None:
    with holding_process(folder) as process:
        pids = server_pids(folder)
        assert len(pids) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        await_that(lambda: all(is_gone(pid) for pid in pids.values()))
    with local.running(folder, fsync=False) as servers:
        assert value(servers, "SELECT 1") == 1
        assert not set(pids.values()) & set(server_pids(folder).values())


def test_what_a_killed_watcher_leaves_is_ended_by_the_next_start(folder: Path) -> None:
    with holding_process(folder) as process:
        pids = server_pids(folder)
        for victim in (watcher_of(folder), process.pid):
            os.kill(victim, signal.SIGKILL)
        process.wait()
        assert server_pids(folder) == pids
        assert local.find(folder) is None
        with local.running(folder, fsync=False) as servers:
            assert all(is_gone(pid) for pid in pids.values())
            assert value(servers, "SELECT 1") == 1


def test_clear_ends_leftovers_and_removes_the_data_wherever_it_is(folder: Path) -> None:
    with holding_process(folder) as process:
        pids = server_pids(folder)
        data = (folder / "data").resolve()
        for victim in (watcher_of(folder), process.pid):
            os.kill(victim, signal.SIGKILL)
        process.wait()
    assert data.is_dir()
    local.clear(folder)
    assert all(is_gone(pid) for pid in pids.values())
    assert not data.exists()
    assert {path.name for path in folder.iterdir()} == {"lock"}


def test_a_strangers_pid_in_a_pid_file_is_neither_signalled_nor_in_the_way(folder: Path) -> None:
    with local.running(folder, fsync=False):
        lines = (folder / "data/postgres/postmaster.pid").read_text().splitlines()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        stale = "\n".join([str(stranger.pid), *lines[1:]]) + "\n"
        (folder / "data/postgres/postmaster.pid").write_text(stale)
        (folder / "data/valkey/valkey.pid").write_text(f"{stranger.pid}\n")
        with local.running(folder, fsync=False) as servers:
            assert value(servers, "SELECT 1") == 1
        assert stranger.poll() is None
        stranger.kill()


def test_a_taken_port_is_no_obstacle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = process._free_port
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        taken = squatter.getsockname()[1]
        ports = [taken]
        monkeypatch.setattr(process, "_free_port", lambda: ports.pop() if ports else choose())
        with local.running(folder, fsync=False) as servers:
            assert value(servers, "SELECT 1") == 1
            assert f":{taken}/" not in servers.database_url
            ports.append(taken)
    assert "Address already in use" in (folder / "postgres.log").read_text()


def test_a_server_that_can_not_start_shows_the_end_of_its_log(folder: Path) -> None:
    with local.running(folder, fsync=False):
        pass
    (folder / "data/postgres/PG_VERSION").write_text("9.6\n")
    with (
        pytest.raises(local.ServerFailed, match=r"initialized by PostgreSQL version 9\.6"),
        local.running(folder, fsync=False),
    ):
        pass
    assert server_pids(folder) == {}
    assert local.find(folder) is None


def test_a_broken_append_only_file_stops_both_servers_with_a_reason(folder: Path) -> None:
    with local.running(folder, fsync=False):
        pass
    (folder / "data/valkey/appendonlydir/appendonly.aof.manifest").write_text("nonsense\n")
    with (
        pytest.raises(local.ServerFailed, match="AOF manifest"),
        local.running(folder, fsync=False),
    ):
        pass
    assert server_pids(folder) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has servers run as somebody else")
class TestAsRoot:
    def test_servers_run_unprivileged_below_a_folder_nobody_can_enter(self, tmp_path: Path) -> None:
        private = tmp_path / "private"
        private.mkdir(mode=0o700)
        folder = private / "servers"
        try:
            with local.running(folder, fsync=False) as servers:
                assert value(servers, "SELECT 1") == 1
                for pid in server_pids(folder).values():
                    assert Path(f"/proc/{pid}").stat().st_uid != 0
                assert (folder / "data").is_symlink()
            assert private.stat().st_mode & 0o777 == 0o700
            assert private.stat().st_uid == 0
        finally:
            data = (folder / "data").resolve()
            local.clear(folder)
        assert not data.exists()

    def test_binaries_nobody_can_reach_are_copied_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reachable = accounts.allows

        def as_if_private(account: accounts.Account, command: list[str]) -> bool:
            inside = Path(command[0]).is_relative_to(site)
            return not inside and reachable(account, command)

        site = Path(psycopg.__file__).parents[1]
        monkeypatch.setattr(accounts, "allows", as_if_private)
        folder = tmp_path / "servers"
        folder.mkdir()
        home = homes.prepare(folder)
        try:
            assert not home.postgres.is_relative_to(site)
            with local.running(folder, fsync=False) as servers:
                assert value(servers, "SELECT 1") == 1
                with connect(servers) as connection:
                    connection.execute("CREATE EXTENSION pg_trgm")
        finally:
            local.clear(folder)
        assert homes.prepare(folder).valkey == home.valkey
        homes.clear(folder)

    def test_a_folder_made_by_somebody_else_is_not_trusted(self, tmp_path: Path) -> None:
        trap = tmp_path / refuges.REFUGE
        trap.mkdir()
        assert refuges._is_ours_alone(trap)
        trap.chmod(0o777)
        assert not refuges._is_ours_alone(trap)
        trap.chmod(0o755)
        os.chown(trap, 65534, 65534)
        assert not refuges._is_ours_alone(trap)
        trap.rmdir()
        trap.symlink_to("/usr")
        assert not refuges._is_ours_alone(trap)

    def test_a_link_planted_for_root_is_not_followed(self, tmp_path: Path) -> None:
        precious = tmp_path / "precious"
        precious.mkdir()
        folder = tmp_path / "servers"
        folder.mkdir()
        (folder / "data").symlink_to(precious)
        local.clear(folder)
        assert precious.is_dir()
        (folder / "data").symlink_to(precious)
        try:
            assert homes.prepare(folder).data != precious
        finally:
            local.clear(folder)
        assert list(precious.iterdir()) == []

    def test_data_of_a_removed_folder_does_not_come_back(self, tmp_path: Path) -> None:
        folder = tmp_path / "servers"
        try:
            with local.running(folder, fsync=False) as servers, connect(servers) as connection:
                connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
            with local.running(folder, fsync=False) as servers:
                assert value(servers, "SELECT to_regclass('kept')") is None
        finally:
            local.clear(folder)

    def test_servers_of_a_users_folder_run_as_that_user(self, tmp_path: Path) -> None:
        folder = tmp_path / "servers"
        folder.mkdir()
        user = pwd.getpwnam("daemon").pw_uid
        os.chown(folder, user, -1)
        try:
            with local.running(folder, fsync=False):
                for pid in server_pids(folder).values():
                    assert Path(f"/proc/{pid}").stat().st_uid == user
        finally:
            local.clear(folder)
