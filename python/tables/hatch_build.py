"""Adds partd-tables to the wheel. The program needs cgo, because it contains DuckDB."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

try:
    import gobuild  # before hatchling's backend, because it sets the environment
except ImportError:
    raise SystemExit(
        "partd-go-tables can only be built in a clone of the repository: pip wheel --no-deps ./python/tables"
    ) from None
from hatchling.build import *  # noqa: F403 - this module is also the backend
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GoProgram(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            raise SystemExit(
                "partd-go-tables can only be built in a clone of the repository: pip wheel --no-deps ./python/tables"
            )
        if version == "editable":
            return
        out = Path(self.directory, "bin")
        gobuild.build("partd-go-tables", out, "./cmd/partd-tables", cwd=HERE.parent.parent / "tables", cgo=True)
        build_data["force_include"].update({str(path): f"partd_go_tables/_bin/{path.name}" for path in out.iterdir()})
        build_data["pure_python"] = False
        is_static = "PARTD_PROGRAMS" in os.environ and b"/ld-linux" not in (out / "partd-tables").read_bytes()
        # A program that is not static needs glibc 2.36, as in Debian 12.
        build_data["tag"] = gobuild.tag("2_17", "musllinux_1_1") if is_static else gobuild.tag("2_36")

    def clean(self, versions: list[str]) -> None:
        Path(self.directory, "bin", "partd-tables").unlink(missing_ok=True)
