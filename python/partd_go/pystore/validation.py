"""Checks data against rules before this process writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import pandas as pd

from .exceptions import ValidationError

P = ParamSpec("P")
R = TypeVar("R")


class ValidationRule:
    """A condition that a DataFrame must meet. validate() evaluates it, and get_details() explains a failure."""

    def __init__(self, name: str, error_message: str | None = None):
        self.name = name
        self.error_message = error_message or f"Validation rule '{name}' failed"

    def validate(self, df: pd.DataFrame) -> bool:
        raise NotImplementedError

    def get_details(self, df: pd.DataFrame) -> str:
        return self.error_message


class ColumnExistsRule(ValidationRule):
    def __init__(self, columns: Sequence[str], name: str = "column_exists"):
        super().__init__(name)
        self.columns = list(columns)

    def validate(self, df: pd.DataFrame) -> bool:
        return set(self.columns) <= set(df.columns)

    def get_details(self, df: pd.DataFrame) -> str:
        return f"Missing required columns: {sorted(set(self.columns) - set(df.columns))}"


class NoNullRule(ValidationRule):
    """Requires that columns have no nulls. Columns that do not exist are ignored."""

    def __init__(self, columns: Sequence[str], name: str = "no_null"):
        super().__init__(name)
        self.columns = list(columns)

    def _null_counts(self, df: pd.DataFrame) -> dict[str, int]:
        counts = df[[column for column in self.columns if column in df.columns]].isnull().sum()
        return {str(column): int(count) for column, count in counts.items() if count}

    def validate(self, df: pd.DataFrame) -> bool:
        return not self._null_counts(df)

    def get_details(self, df: pd.DataFrame) -> str:
        return f"Null values found in: {self._null_counts(df)}"


class RangeRule(ValidationRule):
    """Requires a column's values to be between min_val and max_val (or min_value and max_value), inclusive."""

    def __init__(
        self,
        column: str,
        min_val: float | None = None,
        max_val: float | None = None,
        name: str = "range",
        *,
        min_value: float | None = None,
        max_value: float | None = None,
    ):
        super().__init__(name)
        self.column = column
        self.min_val = min_val if min_value is None else min_value
        self.max_val = max_val if max_value is None else max_value

    def _count_outside(self, df: pd.DataFrame) -> int:
        values = df[self.column]
        below = 0 if self.min_val is None else (values < self.min_val).sum()
        return int(below + (0 if self.max_val is None else (values > self.max_val).sum()))

    def validate(self, df: pd.DataFrame) -> bool:
        return self.column not in df.columns or not self._count_outside(df)

    def get_details(self, df: pd.DataFrame) -> str:
        return f"Column '{self.column}': {self._count_outside(df)} values outside {self.min_val} to {self.max_val}"


_TYPES: dict[Any, Callable[[Any], bool]] = {
    float: pd.api.types.is_float_dtype,
    int: pd.api.types.is_integer_dtype,
    str: pd.api.types.is_string_dtype,
    pd.Timestamp: pd.api.types.is_datetime64_any_dtype,
}


class DataTypeRule(ValidationRule):
    """Requires columns to be of the given types: float, int, str or Timestamp."""

    def __init__(self, type_map: dict[str, type], name: str = "data_type"):
        super().__init__(name)
        self.type_map = type_map

    def _mismatches(self, df: pd.DataFrame) -> list[str]:
        known = {column: kind for column, kind in self.type_map.items() if column in df.columns and kind in _TYPES}
        return [
            f"Column '{c}': expected {kind}, got {df[c].dtype}" for c, kind in known.items() if not _TYPES[kind](df[c])
        ]

    def validate(self, df: pd.DataFrame) -> bool:
        return not self._mismatches(df)

    def get_details(self, df: pd.DataFrame) -> str:
        return "; ".join(self._mismatches(df))


class CustomRule(ValidationRule):
    """Requires that a function returns true for the data. An exception counts as false."""

    def __init__(
        self, validate_func: Callable[[pd.DataFrame], Any], name: str = "custom", error_message: str | None = None
    ):
        super().__init__(name, error_message)
        self.validate_func = validate_func

    def validate(self, df: pd.DataFrame) -> bool:
        try:
            return bool(self.validate_func(df))
        except Exception:  # counts as false
            return False


class DataValidator:
    """Checks data against a list of rules."""

    def __init__(self, rules: Sequence[ValidationRule] = ()) -> None:
        self.rules = list(rules)
        self.enabled = True

    def add_rule(self, rule: ValidationRule) -> None:
        self.rules.append(rule)

    def remove_rule(self, name: str) -> None:
        self.rules = [rule for rule in self.rules if rule.name != name]

    def validate(self, df: Any, raise_on_error: bool = True) -> bool:
        frame = df.to_frame() if isinstance(df, pd.Series) else df
        errors = [rule.get_details(frame) for rule in self.rules if not rule.validate(frame)] if self.enabled else []
        if errors and raise_on_error:
            raise ValidationError("Data validation failed:\n" + "\n".join(errors))
        return not errors

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True


def create_validator(rules: Sequence[ValidationRule] = ()) -> DataValidator:
    return DataValidator(rules)


def with_validation(validator: DataValidator) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Returns a decorator. The decorated function validates its first DataFrame argument before each call."""

    def decorator(func: Callable[P, R]) -> Callable[P, R]:
        @wraps(func)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            for arg in (*args, *kwargs.values()):
                if isinstance(arg, pd.DataFrame):
                    validator.validate(arg)
                    break
            return func(*args, **kwargs)

        return wrapper

    return decorator


def create_timeseries_validator(value_columns: Sequence[str], allow_nulls: bool = False) -> DataValidator:
    """Returns a validator that requires float columns, a sorted index and, unless allow_nulls is true, no nulls."""
    sorted_index = CustomRule(
        lambda df: df.index.is_monotonic_increasing, "sorted_index", "Index must be sorted in ascending order"
    )
    nulls = [] if allow_nulls else [NoNullRule(value_columns)]
    types = DataTypeRule({column: float for column in value_columns})
    return DataValidator([ColumnExistsRule(value_columns), *nulls, types, sorted_index])


def create_financial_validator(
    price_columns: Sequence[str] | None = None, volume_column: str = "volume"
) -> DataValidator:
    """Returns a validator for prices and volume: present, not null, not negative, and between low and high."""
    prices = list(price_columns or ("open", "high", "low", "close"))
    columns = [*prices, volume_column]

    def is_valid_ohlc(df: pd.DataFrame) -> bool:
        if not {"open", "high", "low", "close"} <= set(df.columns):
            return True
        inner = df[["open", "close"]]
        return bool(
            ((df["high"] >= inner.max(axis=1)) & (df["low"] <= inner.min(axis=1)) & (df["high"] >= df["low"])).all()
        )

    ohlc = CustomRule(
        is_valid_ohlc,
        "ohlc_relationship",
        "Invalid OHLC relationship: High must be >= all prices, Low must be <= all prices",
    )
    return DataValidator(
        [ColumnExistsRule(columns), NoNullRule(columns), *(RangeRule(c, min_val=0) for c in columns), ohlc]
    )
