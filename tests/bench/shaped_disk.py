"""A disk of a steady rate: the kernel's control groups hold what this process and its children read
from it to so many bytes a second. Disks of virtual machines save up bursts and share what they have, so
that the rate of the same read changes by a factor of two from one minute to the next; below what the
disk always gives, the limit is the rate. Needs root; knows control groups of both versions.
"""

import os
import pathlib

V1 = pathlib.Path("/sys/fs/cgroup/blkio")
V2 = pathlib.Path("/sys/fs/cgroup")


def disk_of(directory):
    """ "254:0": the disk that a directory lies on, whole, even if it lies on a partition."""
    device = os.stat(directory).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    entry = pathlib.Path("/sys/dev/block", name).resolve()
    if (entry / "partition").exists():
        return (entry.parent / "dev").read_text().strip()
    if not entry.exists():
        raise SystemExit(f"{directory} is on no disk of this machine (device {name})")
    return name


class ShapedDisk:
    """Puts the calling process, and what it starts, under a limit until the block ends."""

    def __init__(self, directory, megabytes_per_second):
        self.disk = disk_of(directory)
        self.is_v2 = not V1.exists()
        self.group = (V2 if self.is_v2 else V1) / f"troupe-bench-{os.getpid()}"
        self.rate = megabytes_per_second

    def __enter__(self):
        try:
            if self.is_v2:
                (V2 / "cgroup.subtree_control").write_text("+io")
            self.group.mkdir()
            self.limit(self.rate)
            self.former = self.own_group()
            (self.group / "cgroup.procs").write_text(str(os.getpid()))
        except OSError as why:
            raise SystemExit(f"holding the disk {self.disk} to a rate: {why}; it needs root")
        return self

    def __exit__(self, *unused):
        (self.former / "cgroup.procs").write_text(str(os.getpid()))
        self.group.rmdir()

    def own_group(self):
        """Where this process is now."""
        kind = "" if self.is_v2 else "blkio"
        for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds == kind:
                return (V2 if self.is_v2 else V1) / path.lstrip("/")
        raise SystemExit(f"/proc/self/cgroup names no group for {kind or 'version 2'}")

    def limit(self, megabytes_per_second):
        """From now on."""
        bytes_per_second = int(megabytes_per_second * 1e6)
        if self.is_v2:
            (self.group / "io.max").write_text(f"{self.disk} rbps={bytes_per_second}")
        else:
            file = self.group / "blkio.throttle.read_bps_device"
            file.write_text(f"{self.disk} {bytes_per_second}")


class AsItIs:
    """The disk without a limit."""

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        pass


def disk_at(directory, megabytes_per_second):
    """A disk held to that rate, or, without one, as it is."""
    if megabytes_per_second:
        return ShapedDisk(directory, megabytes_per_second)
    return AsItIs()
