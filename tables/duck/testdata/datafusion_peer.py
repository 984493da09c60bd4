"""Runs each line of standard input as a statement in DataFusion, and prints its single value and type."""

import sys

from datafusion import SessionContext

context = SessionContext()
for line in sys.stdin:
    try:
        batches = context.sql(line).collect()
        column = batches[0].column(0)
        print(column.cast("string")[0].as_py(), column.type, sep="|")
    except BaseException:  # includes panics of DataFusion, which are not Exceptions
        print("error")
