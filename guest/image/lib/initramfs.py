"""Writes the initramfs: busybox, the init script and kernel modules.

usage: initramfs.py MODULES_TREE BUSYBOX INIT OUTPUT MODULE...

The archive is not compressed: unpacking costs an emulated guest more than reading. It is written
here rather than by cpio so that it needs no root for the device node and is the same, byte for
byte, for the same input.
"""

import stat
import sys
from pathlib import Path

from kernel_modules import in_load_order


class NewcArchive:
    """The "newc" cpio format: a header of hexadecimal fields, the name, the content, all padded to four bytes."""

    def __init__(self) -> None:
        self._out = bytearray()
        self._inode = 0

    def directory(self, name: str, permissions: int = 0o755) -> None:
        self._entry(name, stat.S_IFDIR | permissions)

    def file(self, name: str, content: bytes, permissions: int) -> None:
        self._entry(name, stat.S_IFREG | permissions, content)

    def symlink(self, name: str, target: str) -> None:
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, name: str, major: int, minor: int) -> None:
        self._entry(name, stat.S_IFCHR | 0o600, b"", (major, minor))

    def finish(self) -> bytes:
        self._entry("TRAILER!!!", 0)
        return bytes(self._out)

    def _entry(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        # inode, mode, uid, gid, links, time, size, device, special device, name size, checksum
        fields = [self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0]
        self._out += b"070701" + b"".join(b"%08X" % field for field in fields)
        self._out += encoded
        self._pad()
        self._out += content
        self._pad()

    def _pad(self) -> None:
        self._out += b"\0" * (-len(self._out) % 4)


def main(tree: Path, busybox: Path, init: Path, output: Path, wanted: list[str]) -> None:
    modules = in_load_order(tree, wanted)
    archive = NewcArchive()
    for directory in ("bin", "dev", "modules", "proc", "root"):
        archive.directory(directory)
    # The kernel opens the console for init before init can mount /dev.
    archive.character_device("dev/console", 5, 1)
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    archive.file("init", init.read_bytes(), 0o755)
    for name, content in modules:
        archive.file(f"modules/{name}", content, 0o644)
    archive.file("modules/order", "".join(f"{name}\n" for name, _ in modules).encode(), 0o644)
    output.write_bytes(archive.finish())
    print("modules:", " ".join(name for name, _ in modules) or "none, all are built in")


if __name__ == "__main__":
    if len(sys.argv) < 6:
        raise SystemExit(__doc__)
    main(*(Path(argument) for argument in sys.argv[1:5]), sys.argv[5:])
