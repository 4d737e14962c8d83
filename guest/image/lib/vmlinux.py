"""Takes the uncompressed kernel out of a bzImage.

usage: vmlinux.py VMLINUZ OUTPUT

Where the compressed payload lies is part of the x86 boot protocol (fields of the setup header), so
nothing is searched for. Prints "vmlinux" when the result can be booted directly, that is when it
carries a PVH entry note, and "bzImage" when it cannot and OUTPUT is a copy of the input.
"""

import bz2
import gzip
import lzma
import shutil
import struct
import subprocess
import sys
from pathlib import Path

SETUP_SECTS = 0x1F1
HEADER_MAGIC = 0x202
PAYLOAD_OFFSET = 0x248
PVH_ENTRY_NOTE = 18
PT_NOTE = 4


def payload(image: bytes) -> bytes:
    if image[HEADER_MAGIC : HEADER_MAGIC + 4] != b"HdrS":
        raise SystemExit("not a bzImage: the setup header has no HdrS mark")
    # Zero means four, says the protocol; the boot sector itself comes on top.
    setup_bytes = ((image[SETUP_SECTS] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", image, PAYLOAD_OFFSET)
    return image[setup_bytes + offset : setup_bytes + offset + length]


def run_filter(argv: list[str], data: bytes) -> bytes:
    try:
        return subprocess.run(argv, input=data, stdout=subprocess.PIPE, check=True).stdout
    except FileNotFoundError:
        raise SystemExit(f"{argv[0]} is needed to unpack this kernel: apt-get install {argv[0]}") from None


def unpack(packed: bytes) -> bytes:
    # All but gzip are followed by four bytes with the unpacked size, which the tools would take for garbage.
    body = packed[:-4]
    if packed.startswith(b"\x1f\x8b"):
        return gzip.decompress(packed)
    if packed.startswith(b"\xfd7zXZ\0"):
        return lzma.decompress(body)
    if packed.startswith(b"\x5d\0\0"):
        return lzma.decompress(body, lzma.FORMAT_ALONE)
    if packed.startswith(b"BZh"):
        return bz2.decompress(body)
    if packed.startswith(b"\x02\x21\x4c\x18"):
        return run_filter(["lz4", "-dc"], body)
    if packed.startswith(b"\x28\xb5\x2f\xfd"):
        return run_filter(["zstd", "-dc"], body)
    raise SystemExit(f"the kernel is packed in an unknown way (it starts with {packed[:4].hex()})")


def has_pvh_entry(elf: bytes) -> bool:
    (table,) = struct.unpack_from("<Q", elf, 0x20)
    entry_size, entries = struct.unpack_from("<HH", elf, 0x36)
    for index in range(entries):
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", elf, table + index * entry_size)
        if kind == PT_NOTE and PVH_ENTRY_NOTE in xen_notes(elf[offset : offset + size]):
            return True
    return False


def xen_notes(notes: bytes) -> set[int]:
    found = set()
    at = 0
    while at + 12 <= len(notes):
        name_size, content_size, kind = struct.unpack_from("<III", notes, at)
        if notes[at + 12 : at + 12 + name_size] == b"Xen\0":
            found.add(kind)
        at += 12 + (name_size + 3 & ~3) + (content_size + 3 & ~3)
    return found


def main(source: Path, target: Path) -> None:
    elf = unpack(payload(source.read_bytes()))
    if elf.startswith(b"\x7fELF\x02") and has_pvh_entry(elf):
        target.write_bytes(elf)
        print("vmlinux")
    else:
        shutil.copyfile(source, target)
        print("bzImage")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
