"""Puts partd-tables into the wheel. It is built by cgo, as DuckDB is within it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags


class GoProgram(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            raise SystemExit("partd-go-tables is built in a clone of the repository: pip wheel --no-deps ./python/tables")
        if version == "editable":
            return
        program = Path(self.directory, "bin", "partd-tables")
        env = {**os.environ, "CGO_ENABLED": "1", "GOWORK": "off"}
        command = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./cmd/partd-tables"]
        try:
            subprocess.run(command, cwd=Path(self.root).parent.parent / "tables", env=env, check=True)
        except FileNotFoundError:
            raise SystemExit("partd-go-tables is built from source here, and Go was not found: install it from https://go.dev/dl")
        build_data["force_include"][str(program)] = "partd_go_tables/_bin/partd-tables"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{wheel_platform()}"

    def clean(self, versions: list[str]) -> None:
        Path(self.directory, "bin", "partd-tables").unlink(missing_ok=True)


def wheel_platform() -> str:
    """Where the program runs: with a C and C++ library as new as those of Debian 12, or where it was built."""
    return f"manylinux_2_36_{platform.machine()}" if sys.platform == "linux" else next(platform_tags())
