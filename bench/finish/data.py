"""Makes the input of bench/finish and counts the rows in outputs. It uses only pyarrow and numpy, which is no tool
under test.

  data.py make DIR BYTES FILE... writes the files, which are rows, left or right as .csv or .parquet; BYTES is the size
                                 of rows, and of left and right together, in Arrow's format
  data.py check DIR BYTES JOB    prints what the directory DIR contains after a job, as JSON

Each value of a row follows from its number. So each row of an output shows which row it is, and whether it is
undamaged."""

import functools
import io
import json
import os
import pathlib
import re
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

ROW = 120  # bytes of a row of the file rows in Arrow's format
WORDS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)
FIRST_INVERSE = np.uint64(pow(int(WORDS[0]), -1, 1 << 64))
PAIRS = np.array([ord("a") + i % 16 | (ord("a") + i // 16) << 8 for i in range(256)], np.uint16)
DIGITS = 10 ** np.arange(6, -1, -1)
LETTERS = 26 ** np.arange(6, -1, -1)


def texts(numbers):
    """Returns 64 letters for each number, as an array of bytes. They are the four products of the number and WORDS."""
    return PAIRS[((numbers.astype(np.uint64) + np.uint64(1))[:, None] * WORDS).view(np.uint8)].view(np.uint8)


def numbers_of(letters):
    """Returns the numbers from which texts made the letters."""
    first = letters[:, :16] - ord("a")
    return ((first[:, 0::2] | first[:, 1::2] << 4).view(np.uint64).ravel() * FIRST_INVERSE - np.uint64(1)).astype(
        np.int64
    )


@functools.cache
def key_table(size):
    digits = np.arange(size)[:, None] // DIGITS % 10 + ord("0")
    return np.concatenate([np.full((size, 1), ord("k")), digits], axis=1).astype(np.uint8).view(np.uint64).ravel()


def keys(n, size):
    """Returns k and seven digits, or letters if size has more digits, for each number below size."""
    if size <= 10**7:
        return key_table(size)[n].view(np.uint8).reshape(-1, 8)
    letters = n[:, None] // LETTERS % 26 + ord("a")
    return np.concatenate([np.full((len(n), 1), ord("k")), letters], axis=1).astype(np.uint8)


def column(letters):
    width = letters.shape[1]
    offsets = np.arange(len(letters) + 1, dtype=np.int32) * width
    return pa.StringArray.from_buffers(len(letters), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(letters)))


def mix(n):
    return ((n.astype(np.uint64) * np.uint64(0xFF51AFD7ED558CCD)) >> np.uint64(33)).astype(np.int64)


class Data:
    """The columns of the three files. Half of the rows of left have the same key; each key is in one row of right."""

    def __init__(self, size):
        self.rows = size // ROW
        self.sides = {"rows": self.rows, "left": self.rows * 9 // 20, "right": self.rows * 11 // 20}

    def hot(self, n):
        m = mix(n)
        return np.where(m & 1 == 0, 0, (m >> 1) % self.sides["right"])

    def make(self, file, n):
        """Returns the columns of the rows n of a file."""
        if file == "right":
            k = n * 1_000_003 % self.sides["right"]
            return {"key": keys(k, self.sides["right"]), "w": 3 * k, "more": texts(k + (1 << 40))}
        by = (
            {"key": keys(self.hot(n), self.sides["right"])}
            if file == "left"
            else {f"k{m}": keys(mix(n) % m, m) for m in (30, 1000, 100000)}
        )
        return {"id": n} | by | {"v": n * 7 % 1_000_003, "text": texts(n)}

    def expected(self, file, n):
        made = self.make(file, n)
        if file == "left":
            made |= {"w": 3 * self.hot(n), "more": texts(self.hot(n) + (1 << 40))}
        return made

    def batches(self, file):
        for start in range(0, self.sides[file], 8 * 122_880):
            made = self.make(file, np.arange(start, min(self.sides[file], start + 8 * 122_880)))
            yield pa.table({name: column(c) if c.ndim == 2 else c for name, c in made.items()})

    def write(self, path, writer, **options):
        """Writes the file path, such as rows.csv."""
        out = None
        for batch in self.batches(path.stem):
            out = out or writer(path, batch.schema)
            out.write_table(batch, **options)
        out.close()

    def write_parquet(self, path):
        self.write(path, pq.ParquetWriter, row_group_size=122_880)

    def write_csv(self, path):
        self.write(
            path,
            functools.partial(
                pa.csv.CSVWriter, write_options=pa.csv.WriteOptions(quoting_style="none", quoting_header="none")
            ),
        )


def letters_of(values, width):
    """Returns the bytes of texts of this width, and which texts have it."""
    values = values.cast(pa.large_string())
    right = pc.fill_null(pc.equal(pc.binary_length(values), width), False)
    kept = values.filter(right)
    kept = kept.combine_chunks() if isinstance(kept, pa.ChunkedArray) else kept
    offsets = (
        np.frombuffer(kept.buffers()[1], np.int64)[kept.offset : kept.offset + len(kept) + 1]
        if len(kept)
        else np.zeros(1, int)
    )
    data = np.frombuffer(kept.buffers()[2], np.uint8)[offsets[0] : offsets[-1]] if len(kept) else np.zeros(0, np.uint8)
    return data.reshape(-1, width), np.asarray(right)


def plain(c):
    """Returns a column without views of texts, which many functions of pyarrow do not support."""
    nested = pa.types.is_list(c.type) or pa.types.is_large_list(c.type)
    is_view = pa.types.is_string_view(c.type.value_type if nested else c.type)
    return c.cast(pa.large_list(pa.large_string()) if nested else pa.large_string()) if is_view else c


class Check:
    def __init__(self, data, job):
        self.data, self.job = data, job
        self.file = "left" if job in ("join", "distinct") else "rows"
        self.key = "key" if self.file == "left" else "k" + (job.partition("-")[2] or "100000")
        self.names = list(data.make(self.file, np.zeros(1, int)))
        self.ids, self.damaged, self.unsorted, self.last, self.files, self.unreadable = [], 0, False, 0, 0, 0

    def add(self, t):
        """Adds a table of rows. Its column path, if any, is the key in the name of the row's file."""
        t = pa.table({re.sub(r"^list\((\w+)\)$", r"\1", name): plain(c) for name, c in zip(t.column_names, t.columns)})
        if self.job == "list":
            values = t["text"].combine_chunks()
            if not pa.types.is_nested(values.type):
                values = pc.split_pattern(values, ";")
            t = pa.table({self.key: t[self.key].take(pc.list_parent_indices(values)), "text": pc.list_flatten(values)})
        letters, ok = letters_of(t["text"], 64)
        self.damaged += len(ok) - ok.sum()
        t, n = t.filter(ok), numbers_of(letters)
        known = (n >= 0) & (n < self.data.sides[self.file])
        self.damaged += len(n) - known.sum()
        t, n = t.filter(known), n[known]
        wrong = np.zeros(len(n), bool)
        expected = self.data.expected(self.file, n)
        for name in t.column_names:
            want = expected[self.key if name == "path" else name]
            if want.ndim == 1:
                wrong |= np.asarray(pc.fill_null(t[name].cast(pa.int64()), -1)) != want
                continue
            got, ok = letters_of(t[name], want.shape[1])
            wrong |= ~ok
            wrong[ok] |= (got.view(np.uint64) != want[ok].view(np.uint64)).any(axis=1)
        self.damaged += wrong.sum()
        if self.job == "sort" and len(n):
            ranks = np.concatenate([[self.last], expected[self.key][:, 1:].astype(int) @ (10 ** np.arange(6, -1, -1))])
            self.unsorted |= bool((np.diff(ranks) < 0).any())
            self.last = ranks[-1]
        self.ids.append(n)

    def directory(self, path):
        pending, size = [], 0
        for t in self.tables(path):
            pending.append(t)
            size += t.nbytes
            if size >= 256 << 20:
                self.add(pa.concat_tables(pending).combine_chunks())
                pending, size = [], 0
        if pending:
            self.add(pa.concat_tables(pending).combine_chunks())

    def tables(self, path):
        """Yields the rows of the files in a directory, except temporary files. The column path is the key in a file's
        name."""
        joined, size = [], 0  # CSV files, with the key before each line
        files = [
            p
            for p in path.rglob("*")
            if p.is_file()
            and not any(re.match(r"[._]|tmp|partd-tmp|.*#\d+$", part) for part in p.relative_to(path).parts)
        ]
        self.files = len(files)
        for p in sorted(files, key=lambda p: (len(p.name), str(p))):
            key = ([b""] + re.findall(rb"k\d{7}", os.fsencode(p.relative_to(path))))[-1]
            try:
                if p.suffix == ".parquet":
                    f = pq.ParquetFile(p)
                    rows = max(1, f.metadata.num_rows)
                    size = sum(f.metadata.row_group(i).total_byte_size for i in range(f.metadata.num_row_groups))
                    for t in (
                        [f.read(use_threads=False)]
                        if size < 128 << 20
                        else map(pa.table, f.iter_batches(max(1, (128 << 20) * rows // size)))
                    ):
                        yield t.append_column("path", pa.repeat(key.decode(), t.num_rows)) if key else t
                    continue
                with open(p, "rb") as f:
                    header = f.readline()
                    names = header.decode().split(",") if b"text" in header else self.names
                    if not key:
                        yield from self.csv(f, names)
                        continue
                    body, _, rest = ((b"" if b"text" in header else header) + f.read()).rpartition(b"\n")
                self.unreadable += bool(rest)
                if body:
                    joined.append(key + b"," + body.replace(b"\n", b"\n" + key + b",") + b"\n")
                    size += len(joined[-1])
                if size > 64 << 20:
                    yield from self.csv(io.BytesIO(b"".join(joined)), ["path", *names])
                    joined, size = [], 0
            except (pa.ArrowException, OSError, ValueError):
                self.unreadable += 1
        if joined:
            yield from self.csv(io.BytesIO(b"".join(joined)), ["path", *names])

    def csv(self, file, names):
        names = [name.strip() for name in names]
        types = dict.fromkeys(("path", "key", self.key, "text", "more"), pa.string())
        skip = pa.csv.ParseOptions(invalid_row_handler=lambda row: "skip")
        for b in pa.csv.open_csv(
            file,
            pa.csv.ReadOptions(column_names=names, block_size=32 << 20),
            skip,
            pa.csv.ConvertOptions(column_types=types),
        ):
            yield pa.table(b)

    def result(self):
        counts = np.bincount(np.concatenate([np.zeros(0, int), *self.ids]), minlength=self.data.sides[self.file])
        group = (
            mix(np.arange(len(counts))) % int(self.key[1:])
            if self.job.startswith("split")
            else np.zeros(len(counts), int)
        )
        rows, present = np.bincount(group), np.bincount(group, counts > 0)
        return {
            "lost": int((counts == 0).sum()),
            "doubled": int((counts - 1).clip(0).sum()),
            "damaged": int(self.damaged),
            "unsorted": self.unsorted,
            "files": self.files,
            "unreadable": self.unreadable,
            "incomplete": int(((present > 0) & (present < rows)).sum()),
        }


if __name__ == "__main__":
    command, directory, size = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    if command == "make":
        if not sys.argv[4:]:
            sys.exit("data.py make: name the files, such as rows.parquet")
        for path in map(directory.joinpath, sys.argv[4:]):
            if path.suffix == ".parquet":
                Data(size).write_parquet(path)
            else:
                Data(size).write_csv(path)
    else:
        check = Check(Data(size), sys.argv[4])
        check.directory(directory)
        print(json.dumps(check.result()))
