"""Changes the columns of the table t in bucket b with pyiceberg."""

import sys

from pyiceberg.catalog import load_catalog
from pyiceberg.types import LongType, StringType

directory, change = sys.argv[1:]
catalog = load_catalog("partd", type="sql", uri=f"sqlite:///{directory}/catalog.db", warehouse=f"file://{directory}")
table = catalog.load_table("b.t")
with table.update_schema() as update:
    if change == "columns":
        update.rename_column("s", "text")
        update.add_column("added", StringType())
        update.update_column("i", LongType())
        update.delete_column("gone")
    elif change == "order":
        update.move_first("text")
    else:
        update.rename_column("part.a", "b")
