"""The program partd-tables, which partd_go.tables and partd_go.pystore start."""

import os
import sys
from pathlib import Path

PROGRAM = Path(__file__).parent / "_bin" / "partd-tables"


def run() -> None:
    os.execv(PROGRAM, [PROGRAM.name, *sys.argv[1:]])
