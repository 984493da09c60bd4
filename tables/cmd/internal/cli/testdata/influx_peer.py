"""Writes points with InfluxDB's client, in batches that it repeats while the test kills the server.

Arguments: URL, token, number of points. Prints "stored N" after each batch that the server acknowledged, and at the
end one line of JSON.
"""

import json
import re
import sys
import threading
import warnings

from influxdb_client import InfluxDBClient, Point, WriteOptions, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

url, token, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
lock = threading.Lock()
stored: dict[str, list[int]] = {"plain": [], "keyed": []}
failures: list[str] = []


def succeeded(_conf, data):
    text = data.decode() if isinstance(data, bytes) else data
    with lock:
        for line in text.splitlines():
            stored[line.split(",")[0]].append(int(re.search(r"n=(\d+)i", line).group(1)))
        print("stored", sum(map(len, stored.values())), flush=True)


def failed(_conf, _data, error):
    failures.append(str(error))


warnings.simplefilter("ignore")
with InfluxDBClient(url=url, token=token, org="ours", enable_gzip=True) as client:
    answers = {"ping": client.ping(), "version": client.version(), "health": client.health().status}
    options = WriteOptions(batch_size=100, flush_interval=50, retry_interval=100, max_retries=100, max_retry_delay=500)
    with client.write_api(options, success_callback=succeeded, error_callback=failed) as writer:
        for i in range(count):
            for table in stored:
                point = Point(table).tag("host", f"h{i % 10}").field("n", i).field("load", i / 8)
                writer.write("B", record=point.time(i, WritePrecision.MS))
    try:
        client.write_api(write_options=SYNCHRONOUS).write("B", record='plain,host=h n="text" 1000')
    except ApiException as e:
        answers["conflict"] = [e.status, json.loads(e.body)]
print(json.dumps({**answers, "stored": stored, "failures": failures}))
