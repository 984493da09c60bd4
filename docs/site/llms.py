"""Writes llms.txt and llms-full.txt, with which programs read the site as text; see https://llmstxt.org."""

import pathlib
import re
import sys
from collections.abc import Iterator

OPTIONAL = {"Go reference", "Python reference", "Inside"}  # parts of the site that few questions need


def write(nav: list[dict[str, str | list[str]]], docs: pathlib.Path, out: pathlib.Path, version: str) -> None:
    """Writes both files into out, for the pages of nav in docs, whose HTML is in out/version. llms-full.txt has the
    text of the pages, without the optional parts."""
    index, optional, full = [], ["## Optional\n"], []
    for part in nav:
        for title, names in part.items():
            lines = optional if title in OPTIONAL else index
            lines += [] if title in OPTIONAL else [f"## {title}\n"]
            for name in [names] if isinstance(names, str) else names:
                text = (docs / name).read_text()
                address = f"{version}/{re.sub(r'README[.]md$', 'index.md', name).removesuffix('.md')}.html"
                if not (out / address).exists():
                    sys.exit(f"docs/site/llms.py: the site lacks {address}, the page of {name}")
                lines.append(f"- [{heading(text)}]({address}){summary(text)}")
                if title not in OPTIONAL:
                    full.append(f"<!-- {name} -->\n\n{text.strip()}\n")
            lines += [] if title in OPTIONAL else [""]
    start = (docs / "README.md").read_text()
    intro = f"# {heading(start)}\n\n> {prose(start)}\n"
    (out / "llms.txt").write_text("\n".join([intro, *index, *optional]) + "\n")
    (out / "llms-full.txt").write_text("\n".join(full))


def heading(text: str) -> str:
    return next(line[2:] for line in text.splitlines() if line.startswith("# "))


def prose(text: str) -> str:
    """Returns the first paragraph of a page, without its links."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph(text)))


def paragraph(text: str) -> Iterator[str]:
    """Yields the lines of the first paragraph of prose."""
    _, _, body = text.partition("\n# ") if not text.startswith("# ") else text.partition("\n")
    started = False
    for line in body.splitlines():
        if re.match(r"[A-Za-z`\[*]", line) and not line.startswith("* "):
            started = True
            yield line.strip()
        elif started:
            return


def summary(text: str) -> str:
    """Returns the first sentence of a page, as the end of its line, or nothing."""
    sentence = re.match(r".*?[.:?](?= |$)", prose(text))
    return f": {sentence[0].rstrip(':')}" if sentence else ""
