"""Reads all tables with pyiceberg, and prints the rows and files of each as a line of JSON."""
import json
import sys

from pyiceberg.catalog import load_catalog

directory = sys.argv[1]
catalog = load_catalog("partd", type="sql", uri=f"sqlite:///{directory}/catalog.db", warehouse=f"file://{directory}")
for (namespace,) in catalog.list_namespaces():
    for identifier in catalog.list_tables(namespace):
        table = catalog.load_table(identifier)
        rows = table.scan().to_arrow()
        print(json.dumps({
            "name": identifier[-1],
            "rows": rows.to_pylist(),
            "types": [str(f.type) for f in rows.schema],
            "files": [task.file.file_path.removeprefix("file://") for task in table.scan().plan_files()],
        }, default=str))
