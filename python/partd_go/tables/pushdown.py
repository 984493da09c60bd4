"""Converts polars and pyarrow filters to the server's text, as far as the server can evaluate them.

A filter becomes a tree of tuples: ("and" or "or", [trees]), ("null" or "valid", column), (comparison, column, value)
and ("in", column, [values]), with pyarrow scalars as values. None stands for any other expression. to_filter() returns
a filter that matches every row that the tree matches, and perhaps more, so the caller must apply the original filter
again.
"""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pyarrow as pa

from .filters import condition, quoted

Tree = tuple[Any, ...] | None
_MAX_BYTES = 512 << 10  # maximum size of a filter, in bytes; the server's limit is 1 MiB
_MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
# For floats, > is sent as "not <=", so that NaN matches too: some engines order NaN above all numbers.
_INVERSE = {">": "<=", ">=": "<"}
_ARROW_OPS = {
    "equal": "=",
    "not_equal": "!=",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "and_kleene": "and",
    "and": "and",
    "or_kleene": "or",
    "or": "or",
    "is_null": "null",
    "is_valid": "valid",
}
_POLARS_OPS = {
    "Eq": "=",
    "NotEq": "!=",
    "Lt": "<",
    "LtEq": "<=",
    "Gt": ">",
    "GtEq": ">=",
    "And": "and",
    "LogicalAnd": "and",
    "Or": "or",
    "LogicalOr": "or",
    "IsNull": "null",
    "IsNotNull": "valid",
}
_BETWEEN = {"Both": (">=", "<="), "Left": (">=", "<"), "Right": (">", "<="), "None": (">", "<")}


def to_filter(tree: Tree, schema: pa.Schema) -> str | None:
    """Returns the filter for the server, or None (all rows) if tree cannot be converted or the filter would be too
    long."""
    server_filter = _to_filter(tree, schema)
    return server_filter if server_filter is not None and len(server_filter.encode()) <= _MAX_BYTES else None


def _to_filter(tree: Tree, schema: pa.Schema) -> str | None:
    if tree is None:
        return None
    op, *operands = tree
    if op in ("and", "or"):
        parts = [_to_filter(part, schema) for part in operands[0]]
        convertible = [f"({part})" for part in parts if part is not None]
        return f" {op} ".join(convertible) or None if op == "and" or len(convertible) == len(parts) else None
    position = schema.get_field_index(operands[0])  # -1 if no column or several columns have the name
    if position < 0:
        return None
    if op in ("null", "valid"):
        return f"{quoted(operands[0])} is {'not ' if op == 'valid' else ''}null"
    values = [
        _fit_value(operand, schema.field(position).type, op)
        for operand in (operands[1] if op == "in" else operands[1:])
    ]
    if any(value is None for value in values):
        return None
    try:
        if op == "in":
            return condition((operands[0], "in", values))
        if pa.types.is_floating(schema.field(position).type) and op in _INVERSE:
            return f"not {condition((operands[0], _INVERSE[op], *values))}"
        return condition((operands[0], op, *values))
    except ValueError:  # the value cannot be written as text
        return None


def _fit_value(value: pa.Scalar, data_type: pa.DataType, op: str) -> Any:
    """Returns the value converted to a column's type, or None if it does not fit or if the server would compare it
    differently."""
    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type if op in ("=", "!=", "in") else pa.null()
    families = _family(value.type), _family(data_type)
    if not value.is_valid or None in families or families[0] != families[1] and families != ("integer", "float"):
        return None
    try:
        converted = value.cast(data_type)
        return converted.as_py() if converted.cast(value.type) == value else None
    except (pa.ArrowException, OverflowError, ValueError):  # the type cannot represent the value
        return None


def _family(data_type: pa.DataType) -> str | None:
    for name, is_family in (
        ("boolean", pa.types.is_boolean),
        ("integer", pa.types.is_integer),
        ("float", pa.types.is_floating),
        ("date", pa.types.is_date32),
        ("text", pa.types.is_string),
        ("text", pa.types.is_large_string),
        ("text", pa.types.is_string_view),
    ):
        if is_family(data_type):
            return name
    return f"time {data_type.tz is None}" if pa.types.is_timestamp(data_type) else None


def _comparison(op: str, left: Tree, right: Tree) -> Tree:
    """Returns the tree for a comparison between a column and a value, or None if the comparison cannot be converted. A
    value is ("value", value). A column is ("column", name), or ("coarse", name) for a time column that is cast to a
    coarser unit."""
    if left and right and left[0] == "value":
        op, left, right = _MIRRORED[op], right, left
    if not left or not right or right[0] != "value" or left[0] not in ("column", "coarse"):
        return None
    name, value = left[1], right[1]
    if left[0] == "column":
        return op, name, value
    if op == "!=" or not pa.types.is_timestamp(value.type) or not value.is_valid:
        return None
    # A time and the same time in the coarser unit differ by less than one such unit. So bounds one unit below and above
    # the value keep all matching rows. The operator = needs both bounds, and the others need one.
    lower, upper = (pa.scalar(value.value + offset, value.type) for offset in (-1, 1))
    bounds = (">=", lower), ("<=", upper)
    return "and", [(bound_op, name, bound) for bound_op, bound in bounds if op[0] in ("=", bound_op[0])]


def _combine(op: str, parts: list[Tree]) -> Tree:
    if op in ("and", "or"):
        conditions = [("=", part[1], pa.scalar(True)) if part and part[0] == "column" else part for part in parts]
        return op, [None if part and part[0] in ("value", "coarse") else part for part in conditions]
    if op in ("null", "valid"):
        return (op, parts[0][1]) if parts[0] and parts[0][0] == "column" else None
    return _comparison(op, *parts) if len(parts) == 2 else None


def parse_arrow(expression: Any) -> tuple[Tree, set[str] | None]:
    """Returns a pyarrow expression's tree and the names of its columns; each is None if unknown. An expression can be
    inspected only through its pickle, which is a record batch: the columns hold the literals, and the schema's metadata
    lists the calls in order."""
    try:
        batch = pa.ipc.open_file(expression.__reduce__()[1][0]).get_batch(0)
        schema_text = batch.schema.to_string(truncate_metadata=False, show_field_metadata=False)
        words = re.findall(
            r"^(call|end|field_ref|nested_field_ref|literal|options): '(.*)'$", schema_text, re.MULTILINE
        )
        names = {name for kind, name in words if kind == "field_ref"}
        # The text cannot be parsed if a column name contains a quote, or a line break, which adds a line.
        if len(schema_text.partition("-- schema metadata --")[2].splitlines()) - 1 == len(words) and not any(
            "'" in name for name in names
        ):
            return _combine("and", [_from_arrow(words[::-1], batch)]), names
    except (pa.ArrowException, AttributeError, IndexError, KeyError, TypeError, ValueError):
        pass  # another pyarrow version pickles differently
    return None, None


def _from_arrow(words: list[tuple[str, str]], batch: pa.RecordBatch) -> Tree:
    kind, word = words.pop()
    if kind == "literal":
        return "value", batch.column(int(word))[0]
    if kind == "field_ref":
        return "column", word
    if kind == "nested_field_ref":
        for _ in range(int(word)):
            _from_arrow(words, batch)
        return None
    parts: list[Tree] = []
    options: Any = None
    while words[-1][0] != "end":
        if words[-1][0] == "options":
            options = batch.column(int(words.pop()[1]))[0]
        else:
            parts.append(_from_arrow(words, batch))
    words.pop()
    if word == "is_in" and parts[0] and parts[0][0] == "column":
        return "in", parts[0][1], list(options["value_set"].values)
    if word == "if_else":  # DuckDB wraps is_in in this way so that null never matches a list
        return _combine("and", parts[:2]) if parts[2] and parts[2][0] == "value" and not parts[2][1].is_valid else None
    if word == "invert" and parts[0] and parts[0][0] in ("null", "valid"):
        return "valid" if parts[0][0] == "null" else "null", parts[0][1]
    if word not in _ARROW_OPS or word == "is_null" and options is not None and options["nan_is_null"].as_py():
        return None
    return _combine(_ARROW_OPS[word], parts)


def parse_polars(predicate: Any) -> tuple[Tree, Any]:
    """Returns a polars expression's tree, and the expression without polars' dynamic predicates, which only a running
    polars query can evaluate."""
    import polars

    tree = json.loads(predicate.meta.serialize(format="json"))
    parts = _conjuncts(tree)
    static_parts = [
        part for part in parts if not str(part.get("Display", {}).get("fmt_str", "")).startswith("dynamic_pred")
    ]
    if len(static_parts) < len(parts):
        combined: Any = None
        for part in static_parts:
            combined = part if combined is None else {"BinaryExpr": {"left": combined, "op": "And", "right": part}}
        predicate = None if combined is None else _expression(combined)
    trees = []
    for part in static_parts:
        try:
            trees.append(_from_polars(part))
        except (polars.exceptions.PolarsError, AttributeError, IndexError, KeyError, TypeError, ValueError):
            trees.append(None)  # another polars version serializes differently
    return _combine("and", trees), predicate


def _conjuncts(tree: dict[str, Any]) -> list[dict[str, Any]]:
    binary = tree.get("BinaryExpr", {})
    return [*_conjuncts(binary["left"]), *_conjuncts(binary["right"])] if binary.get("op") == "And" else [tree]


def _expression(tree: Any) -> Any:
    import polars

    return polars.Expr.deserialize(io.BytesIO(json.dumps(tree).encode()), format="json")


def _from_polars(tree: dict[str, Any]) -> Tree:
    ((kind, body),) = tree.items()
    if kind == "Column":
        return "column", str(body)
    if kind == "Cast" and "Column" in body["expr"]:  # a cast from times to a coarser unit
        return ("coarse", body["expr"]["Column"]) if "Datetime" in json.dumps(body["dtype"]) else None
    if kind in ("Literal", "Cast"):
        values = _values(tree)
        return ("value", values[0]) if len(values) == 1 else None
    if kind == "BinaryExpr":
        op = _POLARS_OPS.get(body["op"])
        return _combine(op, [_from_polars(body["left"]), _from_polars(body["right"])]) if op else None
    if kind != "Function" or not (function := body["function"].get("Boolean")):
        return None
    column = _from_polars(body["input"][0])
    if isinstance(function, str):
        return _combine(_POLARS_OPS[function], [column]) if function in ("IsNull", "IsNotNull") else None
    ((name, options),) = function.items()
    if name == "IsBetween":
        ends = [_from_polars(end) for end in body["input"][1:]]
        return "and", [_comparison(op, column, end) for op, end in zip(_BETWEEN[options["closed"]], ends)]
    if name == "IsIn" and column and column[0] == "column" and not options["nulls_equal"]:
        return "in", column[1], [value for value in _values(body["input"][1]) if value.is_valid]
    return None


def _values(tree: Any) -> list[Any]:
    """Returns the values of a literal, or of each item of a list literal."""
    import polars

    if _has_column(tree):
        raise ValueError("the expression is not a literal")
    array = polars.select(_expression(tree)).to_series().to_arrow(compat_level=polars.CompatLevel.oldest())
    array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        array = array[0].values
    return list(array)


def _has_column(tree: Any) -> bool:
    if isinstance(tree, dict):
        return "Column" in tree or any(map(_has_column, tree.values()))
    return isinstance(tree, list) and any(map(_has_column, tree))
