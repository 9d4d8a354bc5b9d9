# ruff: noqa: INP001 (A script beside its settings, not a package.)
"""Build PgBouncer beside this file from Debian's source package, as an ordinary user, in ten seconds: for tests only.

Debian 12 has 1.18, which does not track prepared statements; Debian 13's source, with its security patches, builds there.
Nothing of the system changes: apt reads and writes below `build`, and libevent is linked in. Elsewhere the system's own
PgBouncer is used when it is new enough. It speaks no TLS: loopback only.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAM = HERE / "build" / "pgbouncer"
OLDEST = (1, 21)  # The first that can track prepared statements.
SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NEEDED = {"apt-get": "apt", "cc": "gcc", "dpkg-source": "dpkg-dev", "make": "make", "patch": "patch"}
INHERITED = {"path", "home", "tmpdir", "lang", "http_proxy", "https_proxy", "no_proxy"}
CONFIGURE = ["--without-cares", "--without-openssl", "--without-pam", "--without-systemd", "--disable-evdns"]
ELSEWHERE = (
    "PgBouncer 1.21 or newer is needed, and only Debian's is built here: install it as your system does "
    "(apt-get install pgbouncer, dnf install pgbouncer, brew install pgbouncer), or name it with PGBOUNCER=/path."
)


def find() -> Path | None:
    """PGBOUNCER, else the one that was built, else the system's; None where none is new enough."""
    system = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    for place in (os.environ.get("PGBOUNCER"), PROGRAM, system):
        if place and version(Path(place)) >= OLDEST:
            return Path(place)
    return None


def version(program: Path) -> tuple[int, ...]:
    if not program.is_file():
        return ()
    words = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.search(r"PgBouncer (\d+)\.(\d+)", words)
    return tuple(int(part) for part in found.groups()) if found else ()


def run(*command: str | Path, folder: Path) -> str:
    """Its output; SystemExit with the end of it when it fails."""
    # PgBouncer's make takes any variable for its own: DATA, which names our collections, stops it.
    environment = {name: value for name, value in os.environ.items() if name.lower() in INHERITED}
    done = subprocess.run(  # noqa: S603 - spelled below
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout[-3000:]}")
    return done.stdout


def debian_mirror(folder: Path) -> str:
    """The one that this machine uses already; SystemExit where it uses none."""
    missing = sorted({package for name, package in NEEDED.items() if not shutil.which(name)})
    if not shutil.which("apt-get") or not KEYRING.exists():
        sys.exit(ELSEWHERE)
    if missing:
        sys.exit(f"To build PgBouncer, install first: apt-get install {' '.join(missing)} libc6-dev")
    debian = ["Created-By: Packages", "Origin: Debian", "Label: Debian"]
    mirrors = run("apt-get", "indextargets", "--format", "$(REPO_URI)", *debian, folder=folder).split()
    if not mirrors:
        sys.exit(ELSEWHERE)
    return mirrors[0]


def apt_options(folder: Path, mirror: str) -> Sequence[str]:
    """Makes apt read one source and write only below `folder`, so that it needs no root and leaves nothing behind."""
    lists, cache = folder / "lists", folder / "cache"
    (lists / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    sources = folder / "sources.list"
    system = Path("/etc/os-release").read_text(encoding="utf-8")
    codename = re.search(r"^VERSION_CODENAME=(\w+)", system, re.MULTILINE)
    sources.write_text(
        f"deb-src [signed-by={KEYRING}] {mirror} {SUITE} main\n"
        f"deb [signed-by={KEYRING}] {mirror} {codename.group(1) if codename else SUITE} main\n",
        encoding="utf-8",
    )
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": lists,
        "Dir::Cache": cache,
        "APT::Sandbox::User": "",  # Its own user could not enter a private folder.
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def build(folder: Path) -> Path:
    options = apt_options(folder, debian_mirror(folder))
    run("apt-get", *options, "-qq", "update", folder=folder)
    run("apt-get", *options, "-qq", "source", "pgbouncer", folder=folder)
    run("apt-get", *options, "-qq", "download", "libevent-dev", folder=folder)
    run("dpkg-deb", "-x", next(folder.glob("libevent-dev_*.deb")), "root", folder=folder)
    include = folder / "root" / "usr" / "include"
    library = next(folder.glob("root/usr/lib/*/libevent_core.a"))
    headers = f"-I{include} -I{include / library.parent.name}"
    source = next(place for place in folder.glob("pgbouncer-*") if place.is_dir())
    run("./configure", *CONFIGURE, f"LIBEVENT_CFLAGS={headers}", f"LIBEVENT_LIBS={library}", folder=source)
    run("make", f"-j{os.cpu_count() or 1}", "pgbouncer", folder=source)
    return source / "pgbouncer"


def main() -> None:
    if find() is None:
        with tempfile.TemporaryDirectory() as folder:
            built = build(Path(folder))
            PROGRAM.parent.mkdir(exist_ok=True)
            draft = PROGRAM.with_suffix(".new")
            shutil.copy(built, draft)
            draft.replace(PROGRAM)  # Whole or not at all, whoever runs the old one.
    program = find()
    if program is None:
        sys.exit(f"{PROGRAM} was built and does not say what version it is.")
    print(f"PgBouncer {'.'.join(map(str, version(program)))}: {program}")  # noqa: T201


if __name__ == "__main__":
    main()
