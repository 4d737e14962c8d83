"""Finds kernel modules with all they depend on, in an order in which insmod accepts them."""

import gzip
import lzma
import re
import subprocess
from pathlib import Path

DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


def module_name(path: str) -> str:
    return path.rsplit("/", 1)[-1].split(".ko", 1)[0].replace("-", "_")


def unpacked(path: Path) -> bytes:
    """The kernel's own unpacking of modules is optional and busybox has none, so they go in plain."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


def in_load_order(tree: Path, wanted: list[str]) -> list[tuple[str, bytes]]:
    """Pairs of file name and content. Built-in modules need nothing and are left out.

    The dependencies are read from the modules themselves: modules.dep is made when a kernel is
    installed, and this one is only unpacked.
    """
    files = {module_name(path.name): path for path in tree.rglob("*.ko*") if path.is_file()}
    built_in = {module_name(line) for line in (tree / "modules.builtin").read_text().splitlines()}
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in ordered or name in built_in:
            return
        if name not in files:
            raise SystemExit(f"this kernel has no module {name}, neither built in nor in {tree}")
        content = unpacked(files[name])
        match = DEPENDS.search(content)
        for dependency in match.group(1).decode().split(",") if match else []:
            if dependency:
                add(dependency.replace("-", "_"))
        ordered[name] = content

    for name in wanted:
        add(name)
    return [(f"{name}.ko", content) for name, content in ordered.items()]
