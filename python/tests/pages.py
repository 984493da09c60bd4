"""Runs the code on a page of documentation, and compares the output with the page."""

from __future__ import annotations

import contextlib
import io
import re
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
