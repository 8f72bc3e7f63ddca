"""Builds libdsv4 with cargo, and adds it and the header's declarations to the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = {"win32": "dsv4.dll", "darwin": "libdsv4.dylib"}.get(sys.platform, "libdsv4.so")


def declarations() -> str:
    """The header as cffi wants it: without what is the preprocessor's."""
    header = (ROOT / "include/dsv4.h").read_text(encoding="utf-8")
    header = "\n".join(line for line in header.splitlines() if not line.startswith("#include"))
    command = [os.environ.get("CC", "cc"), "-std=c99", "-E", "-P", "-xc", "-"]
    return subprocess.run(command, input=header, text=True, encoding="utf-8", check=True, stdout=subprocess.PIPE).stdout


class Build(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        # The same crate types as CMakeLists.txt: without an rlib among them the compiler optimizes at link time.
        command = ["cargo", "rustc", "--locked", "--release", "-p", "dsv4", "--lib", "--crate-type", "staticlib,cdylib"]
        command += ["--no-default-features"]
        subprocess.run(command, cwd=ROOT, check=True)
        made = Path(self.directory) / "dsv4.cdef"
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(declarations(), encoding="utf-8")
        build_data["force_include"][str(target / "release" / LIBRARY)] = f"dsv4/{LIBRARY}"
        build_data["force_include"][str(made)] = "dsv4/dsv4.cdef"
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["pure_python"] = False
