"""Adds partd and partd-server to the wheel, and their Go sources to the sdist."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import gobuild  # before hatchling's backend, because it sets the environment
from hatchling.build import *  # noqa: F403 - this module is also the backend
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROGRAMS = ("./cmd/partd", "./cmd/partd-server")


class GoPrograms(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        bundled = Path(self.root, "go")  # exists only in an sdist
        source = bundled if bundled.is_dir() else Path(self.root).parent
        if self.target_name == "sdist":
            build_data["force_include"].update(sources(source))
        elif version != "editable":
            out = Path(self.directory, "bin")
            gobuild.build("partd-go", out, *PROGRAMS, cwd=source, cgo=False)
            build_data["force_include"].update({str(path): f"partd_go/_bin/{path.name}" for path in out.iterdir()})
            build_data["pure_python"] = False
            # The programs contain no C, so they run with old versions of glibc and with musl.
            build_data["tag"] = gobuild.tag("2_17", "musllinux_1_1")

    def clean(self, versions: list[str]) -> None:
        for path in Path(self.directory, "bin").glob("partd*"):
            path.unlink()


def sources(root: Path) -> dict[str, str]:
    """Returns the programs' source files for every system, each with its path in the sdist."""
    files = {str(root / name): f"go/{name}" for name in ("go.mod", "go.sum")}
    for system in ("linux", "darwin", "windows"):
        output = gobuild.go(
            "list", "-deps", "-json=Dir,Module,GoFiles,EmbedFiles,SFiles", *PROGRAMS, cwd=root, GOOS=system
        )
        decoder, offset = json.JSONDecoder(), 0
        while offset < len(output.rstrip()):
            package, offset = decoder.raw_decode(output, offset)
            offset += 1  # skip the newline
            if not package.get("Module", {}).get("Main"):
                continue
            for kind in ("GoFiles", "EmbedFiles", "SFiles"):
                for name in package.get(kind) or ():
                    path = Path(package["Dir"], name)
                    files[str(path)] = f"go/{path.relative_to(root).as_posix()}"
    return files
