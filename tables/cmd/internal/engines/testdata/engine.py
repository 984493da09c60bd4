"""Runs an engine on the tables of an Iceberg REST catalog. It reads requests as lines of JSON, and
replies to each with a line: {"rows": …} or {"error": …}."""

import datetime
import importlib
import json
import logging
import os
import pathlib
import sys
import warnings

kind, url, token, ca = sys.argv[1:5]
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # keep the engines' own output out of the replies


def to_json(value):
    """Returns a value in the form of arrow-go's JSON."""
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value


def to_lists(rows):
    return [{k: to_json(v) for k, v in row.items()} for row in rows]


class PyIceberg:
    def __init__(self):
        from pyiceberg.catalog import load_catalog

        more = {"token": token} if token else {}
        if ca:
            more["ssl"] = {"cabundle": ca}
        self.catalog = load_catalog("partd", type="rest", uri=url, **more)

    def table(self, name):
        return self.catalog.load_table(name)

    def rows(self, table, snapshot=None):
        return self.table(table).scan(snapshot_id=snapshot).to_arrow().to_pylist()

    def arrow(self, t, rows):
        import pyarrow as pa

        for row in rows:
            for k, v in row.items():
                if isinstance(v, str) and k.startswith("date"):
                    row[k] = datetime.date.fromisoformat(v)
        fields = [pa.field(f.name, f.type) for f in t.schema().as_arrow()]
        fields = [pa.field(f.name, pa.string()) if f.type == pa.large_string() else f for f in fields]
        return pa.Table.from_pylist(rows, schema=pa.schema(fields))

    def create(self, table, columns, properties):
        from pyiceberg.schema import Schema
        from pyiceberg.types import NestedField

        fields = [NestedField(i + 1, name, self.type(kind), required=False) for i, (name, kind) in enumerate(columns)]
        self.catalog.create_namespace_if_not_exists(table.split(".")[0])
        self.catalog.create_table(table, Schema(*fields), properties=properties)

    def type(self, kind):
        from pyiceberg import types

        return {"long": types.LongType, "string": types.StringType, "double": types.DoubleType, "boolean": types.BooleanType, "date": types.DateType, "uuid": types.UUIDType}[kind]()

    def append(self, table, rows):
        t = self.table(table)
        t.append(self.arrow(t, rows))

    def stage(self, table, rows):
        """Loads a table to which commit appends the rows."""
        self.loaded = self.table(table)
        self.staged = self.arrow(self.loaded, rows)

    def commit(self):
        self.loaded.append(self.staged)

    def overwrite(self, table, rows):
        t = self.table(table)
        t.overwrite(self.arrow(t, rows))

    def delete(self, table, column, least):
        from pyiceberg.expressions import GreaterThanOrEqual

        self.table(table).delete(GreaterThanOrEqual(column, least))

    def add(self, table, name, type):
        with self.table(table).update_schema() as u:
            u.add_column(name, self.type(type))

    def drop(self, table, name):
        with self.table(table).update_schema() as u:
            u.delete_column(name)

    def rename(self, table, name, new):
        with self.table(table).update_schema() as u:
            u.rename_column(name, new)

    def partition(self, table, column, name):
        from pyiceberg.transforms import IdentityTransform

        with self.table(table).update_spec() as u:
            u.add_field(column, IdentityTransform(), name)

    def unpartition(self, table, name):
        with self.table(table).update_spec() as u:
            u.remove_field(name)

    def insert(self, table, column, value):
        """Appends a row, retrying until the commit succeeds."""
        import pyarrow as pa
        from pyiceberg.exceptions import CommitFailedException

        tries = 0
        while True:
            tries += 1
            try:
                self.table(table).append(pa.table({column: pa.array([value], pa.int64())}))
                return [{"tries": tries}]
            except CommitFailedException:
                pass

    def written(self, table):
        """Writes the rows to new files without committing them, because pyiceberg cannot commit to format version 3."""
        from pyiceberg.io.pyarrow import _dataframe_to_data_files

        t = self.table(table)
        return [{"path": f.file_path} for f in _dataframe_to_data_files(t.metadata, t.scan().to_arrow(), t.io)]

    def names(self):
        return [{"namespace": n[0], "tables": [t[1] for t in self.catalog.list_tables(n)]} for n in self.catalog.list_namespaces()]


class Polars(PyIceberg):
    def rows(self, table):
        import polars as pl

        return pl.scan_iceberg(self.table(table)).collect().to_dicts()


class Daft(PyIceberg):
    def rows(self, table):
        import daft

        return daft.read_iceberg(self.table(table)).to_pylist()


class SQL:
    """The common operations of SQL engines."""

    types = {"long": "bigint", "string": "string", "double": "double", "boolean": "boolean", "date": "date"}

    def append(self, table, rows):
        names = list(rows[0])
        self.do(f"INSERT INTO {self.name(table)} ({', '.join(names)}) VALUES {self.values(rows)}")

    def values(self, rows):
        return ", ".join("(" + ", ".join(self.literal(k, v) for k, v in row.items()) + ")" for row in rows)

    def literal(self, name, value):
        if value is None:
            return "NULL"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str):
            return ("DATE " if name.startswith("date") else "") + "'" + value + "'"
        if isinstance(value, float):
            return f"CAST({value} AS double)"
        return str(value)

    def delete(self, table, column, least):
        self.do(f"DELETE FROM {self.name(table)} WHERE {column} >= {least}")

    def add(self, table, name, type):
        self.do(f"ALTER TABLE {self.name(table)} ADD COLUMN {name} {self.types[type]}")

    def drop(self, table, name):
        self.do(f"ALTER TABLE {self.name(table)} DROP COLUMN {name}")

    def rename(self, table, name, new):
        self.do(f"ALTER TABLE {self.name(table)} RENAME COLUMN {name} TO {new}")


class DuckDB(SQL):
    def __init__(self):
        import duckdb

        self.db = duckdb.connect()
        for name in ("httpfs", "avro", "iceberg"):
            package = importlib.import_module("duckdb_extension_" + name)
            self.do(f"LOAD '{next(pathlib.Path(package.__file__).parent.rglob('*.duckdb_extension'))}'")
        if ca:
            self.do(f"SET ca_cert_file = '{ca}'")
        if token:
            self.do(f"CREATE SECRET partd (TYPE iceberg, TOKEN '{token}')")
        self.do(f"ATTACH '' AS partd (TYPE iceberg, ENDPOINT '{url}'" + (", SECRET partd)" if token else ", AUTHORIZATION_TYPE 'none')"))

    def name(self, table):
        return "partd." + table

    def do(self, statement):
        return self.db.execute(statement)

    def rows(self, table, snapshot=None):
        r = self.do(f"SELECT * FROM {self.name(table)}" + (f" AT (VERSION => {snapshot})" if snapshot else ""))
        names = [d[0] for d in r.description]
        return [dict(zip(names, row)) for row in r.fetchall()]

    def stage(self, table, rows):
        """Writes rows in a transaction that commit ends."""
        self.do("SET preserve_insertion_order=false")
        self.do("BEGIN")
        self.append(table, rows)

    def commit(self):
        self.do("COMMIT")

    def run(self, statement):
        self.do(statement)

    def count(self, table):
        return [{"n": self.do(f"SELECT count(*) FROM {self.name(table)}").fetchone()[0]}]

    def names(self):
        rows = self.do("SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = 'partd'").fetchall()
        return [{"namespace": a, "tables": [b]} for a, b in rows]


class Spark(SQL):
    def __init__(self):
        from pyspark.sql import SparkSession

        b = SparkSession.builder.master("local[2]").appName("partd")
        for key, value in {
            "spark.jars": os.environ["PARTD_SPARK_JAR"],
            "spark.ui.enabled": "false",
            "spark.driver.memory": "1g",
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",  # a short run takes less time
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.shuffle.partitions": "1",
            "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
            "spark.sql.catalog.partd": "org.apache.iceberg.spark.SparkCatalog",
            "spark.sql.catalog.partd.type": "rest",
            "spark.sql.catalog.partd.uri": url,
            "spark.sql.catalog.partd.cache-enabled": "false",
        }.items():
            b = b.config(key, value)
        if token:
            b = b.config("spark.sql.catalog.partd.token", token)
        self.spark = b.getOrCreate()
        self.spark.sparkContext.setLogLevel("ERROR")

    def name(self, table):
        return "partd." + table

    def do(self, statement):
        return self.spark.sql(statement).collect()

    def rows(self, table, snapshot=None):
        return self.run(f"SELECT * FROM {self.name(table)}" + (f" VERSION AS OF {snapshot}" if snapshot else ""))

    def run(self, statement):
        return [r.asDict(recursive=True) for r in self.do(statement)]

    def overwrite(self, table, rows):
        columns = self.spark.table(self.name(table)).columns
        rows = [{k: row.get(k) for k in columns} for row in rows]
        self.do(f"INSERT OVERWRITE {self.name(table)} VALUES {self.values(rows)}")

    def partition(self, table, column, name):
        self.do(f"ALTER TABLE {self.name(table)} ADD PARTITION FIELD {column} AS {name}")

    def unpartition(self, table, name):
        self.do(f"ALTER TABLE {self.name(table)} DROP PARTITION FIELD {name}")

    def names(self):
        spaces = [r[0] for r in self.do("SHOW NAMESPACES IN partd")]
        return [{"namespace": n, "tables": [r.tableName for r in self.do(f"SHOW TABLES IN partd.{n}")]} for n in spaces]


def answer(message):
    answers.write(json.dumps(message) + "\n")
    answers.flush()


try:
    engine = {"pyiceberg": PyIceberg, "polars": Polars, "daft": Daft, "duckdb": DuckDB, "spark": Spark}[kind]()
    answer({"rows": []})
except Exception as e:
    answer({"error": f"{type(e).__name__}: {e}"})
    sys.exit()
for line in sys.stdin:
    request = json.loads(line)
    try:
        answer({"rows": to_lists(getattr(engine, request.pop("op"))(**request) or [])})
    except Exception as e:
        answer({"error": f"{type(e).__name__}: {e}"})
