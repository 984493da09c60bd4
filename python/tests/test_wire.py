"""Compares the numbers of operations and errors in partd_go with docs/dev/wire.md. The other tests would not notice two
wrong numbers on which the client and the server agree."""

from __future__ import annotations

import re
from pathlib import Path

from partd_go import errors, wire

PAGE = (Path(__file__).parents[2] / "docs" / "dev" / "wire.md").read_text()


def test_operations():
    page = {
        name.replace(" ", "_").upper(): int(number) for number, name in re.findall(r"(?m)^\| (\d+) ([a-z ]+) \| ", PAGE)
    }
    numbers = {name: getattr(wire, name) for name in page if hasattr(wire, name)}
    assert len(numbers) == len(set(numbers.values())) >= len(wire.NAMES)
    assert set(wire.NAMES) <= set(numbers.values())
    assert numbers == {name: page[name] for name in numbers}


def test_error_codes():
    (listed,) = re.findall(r"The codes are (.*?), 19 no longer open", PAGE.replace("\n", " "))
    page = {
        name.split(" (")[0]: int(number)
        for number, name in re.findall(r"(\d+) ([^,]+)", listed + ", 19 no longer open")
    }
    names = {
        "unsupported": errors.UNSUPPORTED,
        "too large": errors.TOO_LARGE,
        "unknown outcome": errors.UNKNOWN,
        "no space": errors.NO_SPACE,
        "corrupt": errors.CORRUPT,
        "session expired": errors.SESSION_EXPIRED,
        "session gap": errors.SESSION_GAP,
        "session reused": errors.SESSION_REUSED,
        "no permission": errors.REFUSED,
        "does not exist": errors.NOT_EXIST,
        "quota": errors.QUOTA,
        "busy": errors.BUSY,
        "no longer open": errors.LOST,
    }
    assert len(page) == 19
    assert names == {name: page[name] for name in names}
