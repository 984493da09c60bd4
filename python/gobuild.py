"""Builds Go programs for a wheel. The build hooks of ./python and ./python/tables use it.

GOARCH selects another processor, for which cgo programs need compilers in CC and CXX. packaging/wheels sets these.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

from packaging.tags import platform_tags

# pip sets this variable, which makes hatchling build the wheel twice: silently for its metadata, and then for pip.
os.environ.pop("PIP_BUILD_TRACKER", None)

# Rarely used packages. They are compiled without inlining, which makes partd-tables a twelfth smaller. The only listed
# packages that read, write or send rows are arrow/compute, which is needed only if a put sends rows of another type,
# and crypto/tls and protobuf, which are called once for each record or message.
_RARELY_USED = (
    "cloud.google.com",
    "crypto/tls",
    "crypto/x509",
    "database/sql",
    "encoding/xml",
    "html/template",
    "net/http",
    "text/template",
    "github.com/andybalholm/brotli",
    "github.com/antlr4-go",
    "github.com/apache/iceberg-go",
    "github.com/geoarrow",
    "github.com/goccy",
    *(
        f"github.com/go-partd/partd/tables/{name}"
        for name in (
            "cmd/internal/cli",
            "internal/faces/operations",
            "internal/files/icecat",
            "internal/state/definition",
            "page",
            "rest",
            "stage",
        )
    ),
    "github.com/googleapis",
    "github.com/jackc",
    "github.com/minio",
    "github.com/nats-io",
    "github.com/prometheus",
    "github.com/spf13",
    "github.com/substrait-io",
    "github.com/twmb",
    "go.opentelemetry.io",
    "go.yaml.in",
    "golang.org/x/crypto",
    "golang.org/x/oauth2",
    "golang.org/x/text",
    "google.golang.org/api",
    "google.golang.org/genproto",
    "google.golang.org/protobuf",
    "gopkg.in",
    *(f"github.com/apache/arrow-go/v18/arrow/{name}" for name in ("compute", "extensions", "flight/gen", "scalar")),
)
VERSION = "0.1.0.dev0"  # packaging/release replaces it in its copy of the sources, as in pyproject.toml
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def build(wheel: str, out: Path, *packages: str, cwd: Path, cgo: bool) -> None:
    """Builds packages into the directory out."""
    out.mkdir(parents=True, exist_ok=True)
    if built := os.environ.get("PARTD_PROGRAMS"):  # packaging/release sets it
        for package in packages:
            shutil.copy(Path(built, package.rpartition("/")[2]), out)
        shutil.copytree(Path(built, "licences"), out / "licences", dirs_exist_ok=True)
        return
    say(
        f"{wheel}: building {', '.join(package.rpartition('/')[2] for package in packages)} with Go, which can take "
        "minutes"
    )
    start = time.monotonic()
    flags = "-s -w -buildid= -funcalign=16"
    if "dev" not in VERSION:
        flags += f" -X=github.com/go-partd/partd/internal/command/cliutil.release=v{VERSION}"
    if cgo and sys.platform == "linux":  # leave out DuckDB's symbols, which only loadable extensions need
        flags += " -extldflags=-Wl,--no-export-dynamic,--gc-sections"
    # grpcnotrace drops gRPC's debug pages, whose templates would keep every method in the program.
    no_inlining = (f"-gcflags={path}/...=-l" for path in _RARELY_USED)
    go(
        "build",
        "-trimpath",
        "-tags=grpcnotrace",
        *no_inlining,
        f"-ldflags={flags}",
        "-o",
        f"{out}{os.sep}",
        *packages,
        cwd=cwd,
        CGO_ENABLED="1" if cgo else "0",
    )
    size = sum((out / package.rpartition("/")[2]).stat().st_size for package in packages if os.name != "nt")
    say(f"{wheel}: built in {time.monotonic() - start:.0f} seconds, {size / 1e6:.0f} MB")


def version() -> str:
    """Returns the version of the package, with the commit if this is a clone."""
    if "dev" not in VERSION or not Path(__file__).parents[1].joinpath(".git").exists():
        return VERSION
    run = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True
    )
    return f"{VERSION}+g{run.stdout.strip()}" if run.returncode == 0 else VERSION


def say(text: str) -> None:
    """Prints to the terminal, because pip hides the output of a build unless it runs with -v."""
    try:
        with open("/dev/tty", "w") as terminal:
            terminal.write(f"\n{text}\n")
    except OSError:
        print(text, flush=True)


def tag(glibc: str, *more: str) -> str:
    """Returns the wheel's tag: on Linux for this version of glibc and with more tags, elsewhere for this system."""
    machine = _MACHINES.get(os.environ.get("GOARCH", ""), platform.machine())
    if sys.platform != "linux":
        return f"py3-none-{next(platform_tags())}"
    return "py3-none-" + ".".join(f"{kind}_{machine}" for kind in (f"manylinux_{glibc}", *more))


def go(*args: str, cwd: Path, **environment: str) -> str:
    env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", **environment}
    try:
        run = subprocess.run(["go", *args], cwd=cwd, env=env, check=True, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise SystemExit(
            "building this wheel from source needs Go, which was not found: install it from https://go.dev/dl"
        ) from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(
            f"go {args[0]} failed with exit code {error.returncode}: see its output above (pip shows it)"
        ) from None
    return run.stdout
