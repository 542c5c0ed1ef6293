"""How much memory there is, and how much a process takes, as far as the operating system says."""

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> float:
    """What a new process could still take, within the container's limit too; infinity where nobody knows."""
    free = [_field(Path("/proc/meminfo"), "MemAvailable")]
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            free.append(float(limit) - float((_CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no limit of the second version
    return min((value for value in free if value is not None), default=float("inf"))


def used_bytes(pid: int) -> float:
    """What a process holds now; 0 where nobody knows."""
    return _field(Path(f"/proc/{pid}/status"), "VmRSS") or 0.0


def peak_bytes() -> float:
    """The most that this process ever held; 0 where nobody knows."""
    return _field(Path("/proc/self/status"), "VmHWM") or 0.0


def _field(path: Path, name: str) -> float | None:
    try:
        for line in path.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return float(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass  # not Linux, or the process has just ended
    return None
