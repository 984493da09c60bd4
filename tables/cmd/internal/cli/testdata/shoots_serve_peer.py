"""Makes the same calls with shoots' client at our server and at shoots' server, and
prints the differences between the results. Arguments: our port, a port for shoots'
server, a directory, and for TLS the certificate, its key and the secret."""
import base64
import hmac
import json
import os
import subprocess
import sys
import time

import pandas as pd
import pyarrow as pa
import pyarrow.flight as flight
from shoots import BucketDeleteMode, PutMode, ShootsClient

ours, theirs, directory = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
tls = sys.argv[4:]
command = [sys.executable, "-W", "ignore", "-m", "shoots.shoots_server", "--port", str(theirs), "--bucket_dir", os.path.join(directory, "shoots")]
options = {}
if tls:
    import jwt

    cert, key, secret = tls
    command += ["--cert_file", cert, "--key_file", key]
    # shoots needs PyJWT, but its dependencies may install another package that is also imported
    # as jwt. With that package, shoots' server cannot check tokens.
    checks = hasattr(jwt, "encode")
    if checks:
        command += ["--secret", secret]

    def base64url(b):
        return base64.urlsafe_b64encode(b).rstrip(b"=")

    def token(secret=secret, **claims):
        claims = {"exp": int(time.time()) + 600, "iat": int(time.time()), "server": "x", "type": "admin", **claims}
        signed = base64url(b'{"alg":"HS256","typ":"JWT"}') + b"." + base64url(json.dumps(claims).encode())
        return (signed + b"." + base64url(hmac.digest(secret.encode(), signed, "sha256"))).decode()

    options = {"tls": True, "root_cert": open(cert).read(), "token": token()}
server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
differences = []


def connect(port, **more):
    return ShootsClient("localhost", port, **{**options, **more})


def outcome(call, client):
    try:
        result = call(client)
    except Exception as e:  # only the type is compared
        return type(e).__name__
    if isinstance(result, pd.DataFrame):
        return result.sort_values(list(result.columns)).reset_index(drop=True)
    return result


def same(a, b):
    if isinstance(a, pd.DataFrame) and isinstance(b, pd.DataFrame):
        try:
            pd.testing.assert_frame_equal(a, b, check_dtype=False)
            return True
        except AssertionError:
            return False
    return type(a) is type(b) and a == b


def names(tables):
    return sorted(t["name"] for t in tables)


def action(client, kind, body):
    return json.loads(b"".join(r.body.to_pybytes() for r in client.client.do_action(flight.Action(kind, json.dumps(body).encode()))))


df = pd.DataFrame({"n": range(1000), "x": [i / 7 for i in range(1000)], "s": [f"row {i}" for i in range(1000)],
                   "t": pd.date_range("2024-01-01", periods=1000, freq="s")})
other = df.rename(columns={"n": "m"})
numbers = df[["t", "n", "x"]]
daily = pd.DataFrame({"t": pd.date_range("2024-01-03 10:00", periods=400, freq="D"), "n": range(400), "x": [None if 50 < i < 90 or i % 7 == 0 else i * i / 3 for i in range(400)]})


def indexed(df):
    """Returns a result with its index, which outcome() drops."""
    assert isinstance(df.index, pd.DatetimeIndex) and df.index.name == "t", df.index
    return df.reset_index()


calls = {
    "ping": lambda c: c.ping(),
    "no buckets": lambda c: c.buckets(),
    "get missing": lambda c: c.get("a"),
    "get missing in bucket": lambda c: c.get("a", bucket=None),
    "put": lambda c: c.put("a", df),
    "put again": lambda c: c.put("a", df),
    "get": lambda c: c.get("a"),
    "append": lambda c: c.put("a", df, mode=PutMode.APPEND),
    "get appended": lambda c: c.get("a"),
    "replace": lambda c: c.put("a", df, mode=PutMode.REPLACE, batch_size=7),
    "get replaced": lambda c: c.get("a"),
    "append misfit": lambda c: c.put("a", other, mode=PutMode.APPEND),
    "replace by another schema": lambda c: c.put("r", df) or c.put("r", other, mode=PutMode.REPLACE),
    "get of another schema": lambda c: c.get("r"),
    "sql": lambda c: c.get("a", sql='SELECT n, x FROM a WHERE n < 10 AND x > 0.5'),
    "sql aggregate": lambda c: c.get("a", sql="SELECT sum(n) AS n, count(*) AS c, avg(x) AS x FROM a"),
    "sql wrong": lambda c: c.get("a", sql="SELECT nothing FROM a"),
    "sql no sql": lambda c: c.get("a", sql="bogus"),
    "sql of missing": lambda c: c.get("zzz", sql="SELECT * FROM zzz"),
    "put in bucket": lambda c: c.put("b", df, bucket="B"),
    "get from bucket": lambda c: c.get("b", bucket="B"),
    "buckets": lambda c: c.buckets(),
    "list": lambda c: names(c.list()),
    "list bucket": lambda c: names(c.list(bucket="B")),
    "list missing": lambda c: c.list(bucket="none"),
    "delete missing": lambda c: c.delete("zzz"),
    "delete bucket with tables": lambda c: c.delete_bucket("B"),
    "delete": lambda c: json.loads(c.delete("b", bucket="B")),
    "emptied bucket": lambda c: c.buckets(),
    "list emptied": lambda c: c.list(bucket="B"),
    "delete emptied": lambda c: json.loads(c.delete_bucket("B")),
    "delete missing bucket": lambda c: c.delete_bucket("none"),
    "delete with contents": lambda c: c.put("d", df, bucket="D") or json.loads(c.delete_bucket("D", mode=BucketDeleteMode.DELETE_CONTENTS)),
    "buckets at the end": lambda c: c.buckets(),
    "resample missing": lambda c: c.resample("zzz", "y", sql="SELECT * FROM zzz"),
    "resample by sql": lambda c: c.resample("a", "y", sql="SELECT * FROM a LIMIT 10"),
    "resampled by sql": lambda c: len(c.get("y")),
    "put numbers": lambda c: c.put("num", numbers) or c.put("daily", daily),
    "resample by time": lambda c: c.resample("num", "z", rule="10s", time_col="t", aggregation_func="mean", mode=PutMode.REPLACE),
    "resampled by time": lambda c: indexed(c.get("z")),
    "resample with error": lambda c: c.resample("num", "z", rule="10s", time_col="t", aggregation_func="mean", mode=PutMode.ERROR),
    "unknown mode": lambda c: action(c, "resample", {"source": "a", "target": "q", "sql": "SELECT * FROM a", "mode": "bad", "source_bucket": None, "target_bucket": None}),
}
for function in "mean sum min max first last count median std var sem nunique quantile ffill bfill nearest asfreq interpolate".split():
    for source, rule in ("num", "7s"), ("num", "333ms"), ("daily", "B"), ("daily", "2BME"), ("daily", "SME"):
        calls[f"{function} by {rule}"] = lambda c, source=source, rule=rule, function=function: c.resample(source, "z", rule, "t", function, mode=PutMode.REPLACE)
        calls[f"{function} by {rule}, its rows"] = lambda c: indexed(c.get("z"))
calls["resample again"] = lambda c: c.resample("daily", "z", "SME", "t", "interpolate", mode=PutMode.APPEND)
calls["resampled again"] = lambda c: indexed(c.get("z"))
for function in "agg", "indices", "none", "fillna":
    calls[f"resample by {function}"] = lambda c, function=function: c.resample("num", "z", "7s", "t", function)
expected = {  # shoots' server deviates from its documentation here
    "append misfit": "FlightServerError",
    "sql wrong": "DataFusionError",
    "sql no sql": "DataFusionError",
}
try:
    for attempt in range(100):
        try:
            their_client = connect(theirs, **({} if not tls or checks else {"token": None}))
            their_client.ping()
            break
        except Exception:
            time.sleep(0.2)
    our_client = connect(ours)
    for name, call in calls.items():
        a, b = outcome(call, our_client), outcome(call, their_client)
        if not same(a, expected.get(name, b)):
            differences.append(f"{name}: ours {a!r}, shoots {b!r}")
    if tls:
        for name, (bad, wanted) in {
            "garbage": ("garbage", "FlightServerError"),
            "other secret": (token("another secret"), "FlightServerError"),
            "expired": (token(exp=1), "FlightServerError"),
            "read": (token(type="read"), "FlightUnauthenticatedError"),
        }.items():
            for port in (ours, theirs) if checks else (ours,):
                got = outcome(lambda port: connect(port, token=bad).ping(), port)
                if got != wanted:
                    differences.append(f"token {name}: {got!r} at port {port}")
        bare = flight.FlightClient(f"grpc+tls://localhost:{ours}", tls_root_certs=options["root_cert"])
        for forged in (None, "garbage"):
            try:
                call = flight.FlightCallOptions(headers=[(b"auth-token-bin", forged.encode())] if forged else [])
                list(bare.do_action(flight.Action("ping", b""), call))
                differences.append(f"our server accepted a call with the token {forged}")
            except flight.FlightUnauthenticatedError:
                pass
    for statement, column in {"DESCRIBE a": "column_name", "DESCRIBE SELECT n FROM a": "column_name", "EXPLAIN SELECT n FROM a": None, "SELECT arrow_typeof(n) AS t FROM a LIMIT 1": "t"}.items():
        a, b = [outcome(lambda c: list(c.get("a", sql=statement).get(column, ())), c) for c in (our_client, their_client)]
        if a != b:
            differences.append(f"{statement}: ours {a!r}, shoots {b!r}")
    if outcome(lambda c: json.loads(c.shutdown()), our_client) != ["shutdown command received"]:
        differences.append("shutdown")
finally:
    server.kill()
print("\n".join(differences))
