"""Changes an item's columns: by appends, within the limits of a strategy, or by functions that migrate the rows."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import pandas as pd

from .exceptions import SchemaError


class EvolutionStrategy(Enum):
    """The limits within which an append may change an item's columns. Columns that appended rows lack become null."""

    STRICT = "strict"
    ADD_ONLY = "add_only"
    COMPATIBLE = "compatible"
    FLEXIBLE = "flexible"


class SchemaChange:
    """A difference between two schemas."""

    def __init__(self, change_type: str, column: str, details: dict[str, Any]):
        self.change_type, self.column, self.details = change_type, column, details


class Schema:
    """The columns of a DataFrame with their types."""

    def __init__(self, columns: list[str], dtypes: dict[str, str], index_dtype: str, version: int = 1):
        self.columns, self.dtypes, self.index_dtype, self.version = columns, dtypes, index_dtype, version

    @classmethod
    def from_dataframe(cls, df: pd.DataFrame, version: int = 1) -> Schema:
        dtypes = {column: str(df[column].dtype) for column in df.columns}
        return cls(df.columns.tolist(), dtypes, str(df.index.dtype), version)

    def detect_changes(self, other: Schema) -> list[SchemaChange]:
        """Returns the differences between this schema and another."""
        common = [column for column in self.columns if column in other.dtypes]
        order = [column for column in other.columns if column in self.dtypes]
        changes = [
            SchemaChange("column_added", c, {"dtype": other.dtypes[c]}) for c in other.columns if c not in self.dtypes
        ]
        changes += [
            SchemaChange("column_removed", c, {"dtype": self.dtypes[c]}) for c in self.columns if c not in other.dtypes
        ]
        changes += [
            SchemaChange("type_changed", c, {"old_dtype": self.dtypes[c], "new_dtype": other.dtypes[c]})
            for c in common
            if self.dtypes[c] != other.dtypes[c]
        ]
        if common != order:
            changes.append(SchemaChange("columns_reordered", "", {"old_order": common, "new_order": order}))
        if self.index_dtype != other.index_dtype:
            changes.append(
                SchemaChange("index_type_changed", "", {"old_dtype": self.index_dtype, "new_dtype": other.index_dtype})
            )
        return changes


_WIDER = {
    ("int16", "int32"),
    ("int16", "int64"),
    ("int32", "int64"),
    ("int32", "float64"),
    ("int64", "float64"),
    ("float32", "float64"),
}
_REFUSED = {
    EvolutionStrategy.ADD_ONLY: ("column_removed", "type_changed", "columns_reordered", "index_type_changed"),
    EvolutionStrategy.COMPATIBLE: ("column_removed",),
    EvolutionStrategy.FLEXIBLE: (),
}


class SchemaEvolution:
    """An item's strategy, with the functions that migrate its rows from one version to another."""

    _migrate_item: Callable[[SchemaEvolution, int], pd.DataFrame] | None = None  # set by the item's collection

    def __init__(self, strategy: EvolutionStrategy = EvolutionStrategy.COMPATIBLE):
        self.strategy = strategy
        self.schemas: dict[int, Schema] = {}
        self.current_version = 0
        self.migration_functions: dict[tuple[int, int], Callable[[pd.DataFrame], pd.DataFrame]] = {}

    def register_schema(self, df: pd.DataFrame) -> int:
        self.current_version += 1
        self.schemas[self.current_version] = Schema.from_dataframe(df, self.current_version)
        return self.current_version

    def detect_schema_changes(self, old_df: pd.DataFrame, new_df: pd.DataFrame) -> list[SchemaChange]:
        return Schema.from_dataframe(old_df).detect_changes(Schema.from_dataframe(new_df))

    def validate_evolution(self, current_schema: Schema, new_schema: Schema) -> bool:
        """Reports whether the strategy permits the change from one schema to another."""
        changes = current_schema.detect_changes(new_schema)
        if self.strategy is EvolutionStrategy.STRICT:
            return not changes
        if any(change.change_type in _REFUSED[self.strategy] for change in changes):
            return False
        if self.strategy is EvolutionStrategy.FLEXIBLE:
            return True
        type_changes = [change.details for change in changes if change.change_type == "type_changed"]
        return all(
            (types["old_dtype"], types["new_dtype"]) in _WIDER or types["new_dtype"] == "object"
            for types in type_changes
        )

    def evolve_dataframe(self, df: pd.DataFrame, target_schema: Schema) -> pd.DataFrame:
        """Returns the rows with exactly the columns of target_schema. Columns that df lacks are null."""
        result = df.reindex(columns=target_schema.columns)
        for column, dtype in target_schema.dtypes.items():
            if column in df.columns and str(df[column].dtype) != dtype:
                result[column] = df[column].astype(dtype)
        return result

    def register_migration(
        self, from_version: int, to_version: int, migration_func: Callable[[pd.DataFrame], pd.DataFrame]
    ) -> None:
        self.migration_functions[(from_version, to_version)] = migration_func

    def migrate(self, df: pd.DataFrame, from_version: int, to_version: int) -> pd.DataFrame:
        """Migrates rows with the function registered for these two versions, or else one version at a time."""
        if direct := self.migration_functions.get((from_version, to_version)):
            return direct(df)
        for version in range(from_version, to_version):
            step = self.migration_functions.get((version, version + 1))
            if step is None and version + 1 not in self.schemas:
                raise SchemaError(f"No migration path from version {version} to {version + 1}")
            df = step(df) if step else self.evolve_dataframe(df, self.schemas[version + 1])
        return df

    def migrate_to_version(self, to_version: int) -> pd.DataFrame:
        """Migrates the item's rows to a version. The current version is in the item's metadata (default: 1)."""
        if self._migrate_item is None:
            raise RuntimeError(
                "migrate_to_version requires collection context. Call collection.migrate_item_to_version instead."
            )
        return self._migrate_item(self, to_version)
