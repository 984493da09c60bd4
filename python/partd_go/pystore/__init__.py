"""The API of the package pystore, implemented with partd_go.tables: `import partd_go.pystore as pystore`.

    pystore.set_path("stores")
    collection = pystore.store("market").collection("trades")
    collection.write("AAPL", frame, metadata={"source": "exchange"}, overwrite=True)
    frame = collection.item("AAPL").to_pandas()

A store is a directory of tables, a collection is a bucket of these tables, and an item is a table. This package needs
the wheel partd-go-tables, pandas and pyarrow, and dask for lazy frames.
"""

from ..errors import extra

with extra("pystore"):
    from . import exceptions, memory, partition, schema_evolution
    from .async_operations import AsyncCollection, AsyncStore, async_pystore
    from .exceptions import (
        CollectionExistsError,
        CollectionNotFoundError,
        ConfigurationError,
        DataIntegrityError,
        ItemExistsError,
        ItemNotFoundError,
        PyStoreError,
        SchemaError,
        SnapshotNotFoundError,
        StorageError,
        TransactionError,
        ValidationError,
    )
    from .schema_evolution import EvolutionStrategy, SchemaEvolution
    from .store import store
    from .transactions import batch_transaction, transaction, with_lock
    from .utils import (
        delete_store,
        delete_stores,
        get_client,
        get_partition_size,
        get_path,
        list_stores,
        read_csv,
        set_client,
        set_partition_size,
        set_path,
    )
    from .validation import (
        ColumnExistsRule,
        CustomRule,
        DataTypeRule,
        DataValidator,
        NoNullRule,
        RangeRule,
        ValidationRule,
        create_financial_validator,
        create_timeseries_validator,
        create_validator,
        with_validation,
    )

__all__ = [
    "store",
    "read_csv",
    "get_path",
    "set_path",
    "set_client",
    "get_client",
    "set_partition_size",
    "get_partition_size",
    "list_stores",
    "delete_store",
    "delete_stores",
    "PyStoreError",
    "DataIntegrityError",
    "ItemNotFoundError",
    "ItemExistsError",
    "CollectionNotFoundError",
    "CollectionExistsError",
    "SnapshotNotFoundError",
    "StorageError",
    "SchemaError",
    "ConfigurationError",
    "ValidationError",
    "TransactionError",
    "async_pystore",
    "AsyncCollection",
    "AsyncStore",
    "transaction",
    "batch_transaction",
    "with_lock",
    "create_validator",
    "with_validation",
    "create_timeseries_validator",
    "create_financial_validator",
    "ValidationRule",
    "DataValidator",
    "ColumnExistsRule",
    "RangeRule",
    "NoNullRule",
    "SchemaEvolution",
    "EvolutionStrategy",
    "CustomRule",
    "DataTypeRule",
    "exceptions",
    "memory",
    "partition",
    "schema_evolution",
]
