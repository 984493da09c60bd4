"""Tests the IO manager for Dagster: what runs materialize, again and at the same time, and what inputs load."""

from __future__ import annotations

import datetime
import warnings

import pages
import pytest

warnings.simplefilter("ignore")  # Dagster's packages emit warnings when they are imported
dagster = pytest.importorskip("dagster", reason="needs Dagster: .ci/peers dagster, and its bin/pytest")
pytest.importorskip("partd_go_tables", reason="needs the partd-go-tables wheel")
import pandas as pd
import polars as pl
import pyarrow as pa

import partd_go
import partd_go.tables
from partd_go.tables.dagster import TablesIOManager

pytestmark = pytest.mark.filterwarnings("ignore")
DAYS = dagster.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-05", timezone="Europe/Berlin")
COUNTRIES = dagster.StaticPartitionsDefinition(["DE", "FR"])


@pytest.fixture(scope="module")
def instance():
    """Yields an instance for all runs, because a new one takes seconds."""
    with dagster.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def place(tmp_path, instance):
    """Yields a client of an empty directory, and a function that materializes assets in its tables."""
    resources = {"io_manager": TablesIOManager(url=str(tmp_path / "market"))}

    def materialize(*args, **options):
        return dagster.materialize(*args, resources=resources, instance=instance, **options)

    with partd_go.tables.connect(tmp_path / "market") as tables:
        yield tables, materialize


def metadata(run, node):
    (event,) = run.asset_materializations_for_node(node)
    return {name: value.value for name, value in event.metadata.items()}


def test_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages.run(pages.TABLES_DOCS / "dagster.md", {})
    with partd_go.tables.connect("market") as tables:
        assert tables.get("trades").price.tolist() == [1, 1.5, 2, 2.5] and tables.settings("trades")["time"] == "day"
        assert tables.get("best").best.tolist() == [2, 2.5]


@pytest.mark.parametrize(
    "kind, zone",
    [
        ("pandas", None),
        ("pandas", "UTC"),
        ("polars", "America/New_York"),
        ("arrow", None),
        ("lazy", None),
        ("reader", "UTC"),
    ],
)
def test_ranges(place, kind, zone):
    """A partition by time is a range. Materialized again, also with fewer rows, it is there once, and its neighbours
    stay. A day is that of the definition's time zone. A column without a zone has times in UTC."""
    tables, materialize = place
    hours = [22]

    @dagster.asset(partitions_def=DAYS, key_prefix=["nyse", "eu"])
    def trades(context):
        start = context.partition_time_window.start.astimezone(datetime.timezone.utc)
        times = [start.replace(tzinfo=None) + datetime.timedelta(hours=hour) for hour in range(hours[0])]
        table = pa.table({"n": range(hours[0]), "when": pa.array(times, pa.timestamp("us", zone))})
        return {
            "pandas": table.to_pandas,
            "polars": lambda: pl.from_arrow(table),
            "arrow": lambda: table,
            "lazy": lambda: pl.from_arrow(table).lazy(),
            "reader": table.to_reader,
        }[kind]()

    def run(day):
        done = materialize([trades], partition_key=day)
        return metadata(done, "nyse__eu__trades")

    assert run("2024-01-01") == {"table": "nyse.eu/trades", "version": 1, "rows": 22}
    assert run("2024-01-02")["rows"] == 22
    hours[0] = 5
    assert run("2024-01-02") == {"table": "nyse.eu/trades", "version": 3, "rows": 5}
    assert len(tables.table("trades", "nyse.eu")) == 22 + 5
    hours[0] = 0
    assert run("2024-01-01")["rows"] == 0 and len(tables.table("trades", "nyse.eu")) == 5

    @dagster.asset(partitions_def=DAYS, ins={"trades": dagster.AssetIn(key_prefix=["nyse", "eu"])})
    def counted(trades: pa.Table) -> pa.Table:
        return pa.table({"when": trades["when"][:1], "rows": pa.array([trades.num_rows][: trades.num_rows])})

    assets = [trades, counted]
    done = materialize(assets, selection=[counted], partition_key="2024-01-02")
    assert done.output_for_node("counted")["rows"].to_pylist() == [5]
    done = materialize(assets, selection=[counted], partition_key="2024-01-01")
    assert done.output_for_node("counted").num_rows == 0


def test_rows_outside_the_partition(place):
    """Rows of another day are refused, and nothing changes."""
    tables, materialize = place

    @dagster.asset(partitions_def=DAYS)
    def trades() -> pd.DataFrame:
        return pd.DataFrame({"when": pd.to_datetime(["2024-01-01 12:00", "2024-02-01 12:00"])})

    with pytest.raises(partd_go.Misuse, match="outside the range, so nothing was replaced"):
        materialize([trades], partition_key="2024-01-01")
    assert len(tables["trades"]) == 0


def test_tables(place):
    """A partition by name is a table, and so is an asset without partitions. An input of several tables is a dict."""
    tables, materialize = place

    @dagster.asset(partitions_def=COUNTRIES)
    def sales(context) -> pl.DataFrame:
        return pl.DataFrame({"country": [context.partition_key] * 2})

    @dagster.asset(partitions_def=COUNTRIES)
    def same(sales: pl.DataFrame) -> pl.DataFrame:
        assert isinstance(sales, pl.DataFrame)
        return sales.head(1)

    @dagster.asset
    def total(sales) -> pd.DataFrame:
        return pd.concat(sales.values())

    for country in ["DE", "FR", "DE"]:
        run = materialize([sales, same], partition_key=country)
    assert metadata(run, "sales") == {"table": "sales.DE", "version": 2, "rows": 2}
    for version in (1, 2):
        run = materialize([sales, total], selection=[total])
        assert metadata(run, "total") == {"table": "total", "version": version, "rows": 4}
    assert sorted(tables.get("total").country) == ["DE", "DE", "FR", "FR"]
    assert tables.list() == ["sales.DE", "sales.FR", "same.DE", "same.FR", "total"]


def test_failures(place):
    """A step that fails or returns no rows changes nothing. So does a run of several partitions that are tables."""
    tables, materialize = place

    @dagster.asset
    def failing():
        yield dagster.Output(pl.LazyFrame({"s": ["x"]}).select(pl.col("s").cast(pl.Int64)))

    with pytest.raises(Exception, match="conversion from"):
        materialize([failing])

    @dagster.asset
    def none():
        return 5

    with pytest.raises(partd_go.Misuse, match="cannot store a value of type int"):
        materialize([none])

    @dagster.asset(partitions_def=COUNTRIES, backfill_policy=dagster.BackfillPolicy.single_run())
    def several() -> pd.DataFrame:
        return pd.DataFrame({"a": [1]})

    tags = {"dagster/asset_partition_range_start": "DE", "dagster/asset_partition_range_end": "FR"}
    with pytest.raises(partd_go.Misuse, match="several: a run writes 2 partitions in separate tables"):
        materialize([several], tags=tags)

    @dagster.asset
    def reader(absent: pd.DataFrame):
        return absent

    with pytest.raises(partd_go.tables.NotFound, match="absent"):
        materialize([reader, dagster.SourceAsset("absent", io_manager_key="io_manager")])
    assert tables.list() == []
