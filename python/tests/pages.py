"""Runs the code on a page of documentation, and compares the output with the page."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import random
import re
import socket
from pathlib import Path
from typing import Any

TABLES_DOCS = Path(__file__).parent.parent.parent / "tables" / "docs"


def run(page: Path, names: dict[str, Any], replaced: dict[str, str] | None = None) -> None:
    """Runs the python blocks of a page with the given names. A text block must equal the output so far. Each key of
    replaced must be on the page, and is first replaced by its value."""
    text = page.read_text()
    for old, new in (replaced or {}).items():
        assert old in text, f"{page.name} does not contain {old}"
        text = text.replace(old, new)
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert text.count("```") == 2 * len(blocks) and any(language == "python" for language, _ in blocks)
    written = ""
    for language, code in blocks:
        if language == "python":
            assert not written, f"{written!r} is not on the page"
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(code, str(page), "exec"), names)
            written = out.getvalue()
        elif language == "text":
            assert written == code
            written = ""
    assert not written


def free_port() -> int:
    """Returns a port that nobody listens on. The system gives no port below 32,768 to others that ask for any port."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as server, contextlib.suppress(OSError):
            server.bind(("127.0.0.1", port))
            return port


def duckdb_extensions() -> dict[str, Path]:
    """Returns the files of DuckDB's extensions that attach a catalog, by name, from their packages on PyPI."""
    files = {}
    for name in ("httpfs", "avro", "iceberg"):
        package = importlib.util.find_spec(f"duckdb_extension_{name}")
        assert package and package.submodule_search_locations, f"duckdb-extension-{name} is not installed"
        (files[name],) = Path(package.submodule_search_locations[0]).glob("extensions/*/*.duckdb_extension")
    return files
