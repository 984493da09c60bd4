"""Builds programs by Go for a wheel, and says so: for the hooks of ./python and ./python/tables.

GOARCH chooses another processor; programs by cgo take CC and CXX, its compilers, then. packaging/wheels does.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from packaging.tags import platform_tags

# Else hatchling builds the whole wheel, in silence, to tell pip the metadata, and then once more.
os.environ.pop("PIP_BUILD_TRACKER", None)

# Their code runs seldom, and is a twelfth of partd-tables smaller where its calls stay calls. What reads, writes and
# sends rows is not among them, and package compute only casts what a put brings in another type.
_SELDOM = ("github.com/antlr4-go", "github.com/apache/iceberg-go", "github.com/geoarrow", "github.com/goccy", "github.com/jackc",
           "github.com/minio", "github.com/nats-io", "github.com/prometheus", "github.com/spf13", "github.com/substrait-io",
           "github.com/twmb", "golang.org/x/crypto", "golang.org/x/oauth2", "golang.org/x/text", "google.golang.org/api",
           "google.golang.org/genproto", "google.golang.org/protobuf/reflect", "gopkg.in",
           *(f"github.com/apache/arrow-go/v18/arrow/{name}" for name in ("compute", "extensions", "flight/gen", "scalar")))  # fmt: skip
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def build(what: str, out: Path, *packages: str, cwd: Path, cgo: bool) -> None:
    """Builds programs into a directory."""
    out.mkdir(parents=True, exist_ok=True)
    say(f"{what}: building {', '.join(package.rpartition('/')[2] for package in packages)} by Go")
    began = time.monotonic()
    flags = "-s -w -funcalign=16"
    if cgo and sys.platform == "linux":  # else all of DuckDB's names are in it, for extensions that nobody loads
        flags += " -extldflags=-Wl,--no-export-dynamic,--gc-sections"
    # grpcnotrace leaves out pages that nobody serves, for whose templates all methods would stay.
    seldom = (f"-gcflags={path}/...=-l" for path in _SELDOM)
    go("build", "-trimpath", "-tags=grpcnotrace", *seldom, f"-ldflags={flags}", "-o", f"{out}{os.sep}", *packages, cwd=cwd, CGO_ENABLED="1" if cgo else "0")
    size = sum((out / package.rpartition("/")[2]).stat().st_size for package in packages if os.name != "nt")
    say(f"{what}: built in {time.monotonic() - began:.0f} seconds, {size / 1e6:.0f} MB")


def say(text: str) -> None:
    """Tells who waits: pip keeps what a build prints to itself, but for -v."""
    try:
        with open("/dev/tty", "w") as terminal:
            terminal.write(f"\n{text}\n")
    except OSError:
        print(text, flush=True)


def tag(glibc: str, *more: str) -> str:
    """The tag of a wheel that runs with this C library, and what else there is for Linux, or where it was built."""
    machine = _MACHINES.get(os.environ.get("GOARCH", ""), platform.machine())
    if sys.platform != "linux":
        return f"py3-none-{next(platform_tags())}"
    return "py3-none-" + ".".join(f"{kind}_{machine}" for kind in (f"manylinux_{glibc}", *more))


def go(*args: str, cwd: Path, **environment: str) -> str:
    env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", **environment}
    try:
        run = subprocess.run(["go", *args], cwd=cwd, env=env, check=True, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise SystemExit("the programs are built from source here, and Go was not found: install it from https://go.dev/dl")
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"go {args[0]} failed with {error.returncode}: its own lines are above (pip shows them)") from None
    return run.stdout
