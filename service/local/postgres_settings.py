"""How the embedded Postgres is set: for one machine that also runs everything else, durable, and fit for load."""

import os
from collections.abc import Mapping
from pathlib import Path

import psutil

MEGABYTE = 1024 * 1024
# A parallel index build puts all of maintenance_work_mem there; Docker gives 64 MB.
LEAST_SHARED_MEMORY = 1024 * MEGABYTE


def server_settings(port: int, own: Mapping[str, str]) -> dict[str, str]:
    memory = memory_limit() // MEGABYTE
    return {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",  # TCP with a password is the only door
        "max_connections": "100",
        "shared_buffers": f"{max(64, min(memory // 4, 4096))}MB",
        "effective_cache_size": f"{max(128, memory // 2)}MB",
        "maintenance_work_mem": f"{max(64, min(memory // 16, 256))}MB",
        "max_wal_size": "2GB",
        "random_page_cost": "1.1",  # solid-state disks
        "jit": "off",  # compiling costs more than any statement here runs
        "dynamic_shared_memory_type": "posix" if roomy_shared_memory() else "mmap",
        "lc_messages": "C",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        **own,
    }


def memory_limit() -> int:
    """Bytes that this process may use: the machine's memory or its control group's share."""
    limit = int(psutil.virtual_memory().total)
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = min(limit, int(Path(file).read_text(encoding="ascii")))
        except (OSError, ValueError):  # Not here, or "max".
            continue
    return limit


def roomy_shared_memory() -> bool:
    try:
        status = os.statvfs("/dev/shm")  # noqa: S108 - measured, not written to
    except OSError:
        return False
    return status.f_bavail * status.f_frsize >= LEAST_SHARED_MEMORY
