"""Compares resampled tables with pandas' results: resample_peer.py DIR. DIR/cases.json says
how each N.out.arrow was computed from N.arrow. Prints the differences, and then the numbers
of cases that were compared and that pandas refused."""
import json
import os
import sys

import numpy as np
import pandas as pd
import pyarrow as pa

directory = sys.argv[1]


def read(name):
    with pa.OSFile(os.path.join(directory, name)) as f:
        return pa.ipc.open_stream(f).read_all()


def expected(df, case):
    """Returns the columns that pandas computes, by the names that we give them."""
    bins = df.set_index("t").resample(case["rule"])
    functions, columns = case["functions"], {}
    if functions[0] in ("ffill", "bfill", "nearest", "asfreq", "interpolate"):  # on frames, as shoots calls them
        result = getattr(bins, functions[0])()
        return {name: result[name] for name in df.columns.drop("t")}
    for name in df.columns.drop("t"):
        for function in functions:
            if function == "size":
                continue
            result = getattr(bins[name], function)()
            if function == "ohlc":
                for part in result.columns:
                    columns[f"{name}_{part}"] = result[part]
            else:
                columns[f"{name}_{function}" if len(functions) > 1 else name] = result
    if "size" in functions:
        columns["size"] = bins.size()
    return columns


def in_previous_day(times, labels):
    """Reports whether pandas assigns rows to the previous day. If clocks skip a label's midnight, pandas uses 01:00
    instead, so the previous day's bin ends at 01:00."""
    labels, times = pd.DatetimeIndex(labels).tz_localize(None), pd.DatetimeIndex(times).tz_localize(None)
    after = labels[labels != labels.normalize()].normalize() + pd.Timedelta(days=1)
    return (times.normalize().isin(after) & (times.hour == 0)).any()


def differs(ours, theirs, function):
    if len(ours) != len(theirs):
        return f"{len(ours)} rows, not {len(theirs)}"
    if theirs.dtype.kind in "OTM" or str(theirs.dtype) in ("str", "string"):
        same = [(pd.isna(a) and pd.isna(b)) or a == b for a, b in zip(ours, theirs)]
    else:
        a, b = ours.to_numpy(dtype=float, na_value=np.nan), theirs.to_numpy(dtype=float, na_value=np.nan)
        same = np.isclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True)
        if function == "quantile":  # pandas returns NaN between an infinity and another value
            same |= np.isinf(a) & np.isnan(b)
    for i, ok in enumerate(same):
        if not ok:
            return f"bin {i}: {ours.iloc[i]!r}, not {theirs.iloc[i]!r}"
    return None


compared = refused = 0
for n, case in enumerate(json.load(open(os.path.join(directory, "cases.json")))):
    df = read(f"{n}.arrow").to_pandas()
    try:
        columns = expected(df, case)
    except Exception as e:  # for example a repeated midnight
        if not any(word in str(e).lower() for word in ("ambiguous", "nonexistent", "out of bounds", "infer dst")):
            print(case, type(e).__name__, e)
        refused += 1
        continue
    ours = read(f"{n}.out.arrow").to_pandas()
    compared += 1
    if list(ours.columns) != ["t", *columns]:
        print(case, list(ours.columns), "not", list(columns))
        continue
    last = df["t"].max()
    for name, theirs in columns.items():
        theirs = theirs[theirs.index.notna()]
        # If the last time is one unit before midnight, pandas adds an empty bin after it.
        if len(theirs) == len(ours) + 1 and last.tz_localize(None) + pd.Timedelta(1, unit=last.unit) == last.tz_localize(None).ceil("D"):
            theirs = theirs[:-1]
        labels = pd.DatetimeIndex(ours["t"])
        if str(labels.tz) != str(theirs.index.tz):
            print(case, "zone", labels.tz, "not", theirs.index.tz)
            break
        a, b = labels.as_unit("ns").asi8, theirs.index.as_unit("ns").asi8
        if len(a) != len(b) or (a != b).any():
            print(case, "labels", labels[:3], labels[-2:], len(a), "not", theirs.index[:3], theirs.index[-2:], len(b))
            break
        if case["rule"].lstrip("0123456789").startswith("W") and in_previous_day(df["t"].dropna(), theirs.index):
            break
        if why := differs(ours[name], theirs, case["functions"][0]):
            print(case, name, why)
print(compared, "compared,", refused, "refused")
