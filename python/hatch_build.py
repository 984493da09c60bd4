"""Puts partd and partd-server into the wheel, and what they are built of into the sdist."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

PROGRAMS = ("./cmd/partd", "./cmd/partd-server")


class GoPrograms(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        packed = Path(self.root, "go")  # in an sdist
        source = packed if packed.is_dir() else Path(self.root).parent
        if self.target_name == "sdist":
            build_data["force_include"].update(sources(source))
        elif version != "editable":
            out = Path(self.directory, "bin")
            go("build", "-trimpath", "-ldflags=-s -w", "-o", f"{out}{os.sep}", *PROGRAMS, cwd=source)
            build_data["force_include"].update({str(path): f"partd_go/_bin/{path.name}" for path in out.iterdir()})
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{wheel_platform()}"

    def clean(self, versions: list[str]) -> None:
        for path in Path(self.directory, "bin").glob("partd*"):
            path.unlink()


def wheel_platform() -> str:
    """Programs without C run on every Linux of the processor, others where they were built."""
    if sys.platform == "linux":
        return f"manylinux_2_17_{platform.machine()}.musllinux_1_1_{platform.machine()}"
    return next(platform_tags())


def sources(root: Path) -> dict[str, str]:
    """The files that the programs are built of, for every system, with their places in the sdist."""
    found = {str(root / name): f"go/{name}" for name in ("go.mod", "go.sum")}
    for system in ("linux", "darwin", "windows"):
        listed = go("list", "-deps", "-json=Dir,Module,GoFiles,EmbedFiles,SFiles", *PROGRAMS, cwd=root, GOOS=system)
        decoder, at = json.JSONDecoder(), 0
        while at < len(listed.rstrip()):
            package, at = decoder.raw_decode(listed, at)
            at += 1  # the line's end
            if not package.get("Module", {}).get("Main"):
                continue
            for kind in ("GoFiles", "EmbedFiles", "SFiles"):
                for name in package.get(kind) or ():
                    path = Path(package["Dir"], name)
                    found[str(path)] = f"go/{path.relative_to(root).as_posix()}"
    return found


def go(*args: str, cwd: Path, **environment: str) -> str:
    env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", **environment}
    try:
        run = subprocess.run(["go", *args], cwd=cwd, env=env, check=True, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise SystemExit("partd-go is built from source here, and Go was not found: install it from https://go.dev/dl")
    return run.stdout
