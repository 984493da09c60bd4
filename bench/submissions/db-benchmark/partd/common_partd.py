# What groupby-partd.py and join-partd.py share. Both run in the root directory of db-benchmark.
import os
import resource
import subprocess
import sys
import timeit

import pyarrow.compute as pc
import pyarrow.csv as pacsv

sys.path.insert(0, "_helpers")
from helpers import join_to_tbls, make_chk, write_log  # noqa: E402

__all__ = ["column", "data_name", "join_to_tbls", "rows_of", "run"]
task = os.path.basename(sys.argv[0]).split("-")[0]
program = "partd/bin/partd"
version = subprocess.run([program, "version"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[2]
data_name = os.environ["SRC_DATANAME"]
machine_type = os.environ["MACHINE_TYPE"]
spill_dir = os.environ.get("SPILL_DIR", ".") + "/partd-" + task
answer = os.path.join(spill_dir, "answer.csv")
os.makedirs(spill_dir, exist_ok=True)


def check(totals):
    """Returns the shape of the answer, and the sums of expressions over its columns."""
    rows, sums = 0, [0] * len(totals)
    with pacsv.open_csv(answer) as reader:
        for batch in reader:
            rows += batch.num_rows
            for i, total in enumerate(totals):
                sums[i] += pc.sum(total(batch)).as_py() or 0
        return rows, len(reader.schema), sums


def run(question, arguments, totals, in_rows):
    """Asks a question twice. Each run reads the files and writes the answer to a file."""
    for n in (1, 2):
        command = [program, *arguments, "--quiet", "--tmp", spill_dir, "--force", "-o", answer]
        t_start = timeit.default_timer()
        subprocess.run(command, check=True)
        t = timeit.default_timer() - t_start
        m = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2  # of all questions so far, in GB
        t_start = timeit.default_timer()
        rows, columns, sums = check(totals)
        chkt = timeit.default_timer() - t_start
        print((rows, columns), flush=True)
        write_log(
            task=task,
            data=data_name,
            in_rows=in_rows,
            question=question,
            out_rows=rows,
            out_cols=columns,
            solution="partd",
            version=version,
            git="",
            fun=arguments[0],
            run=n,
            time_sec=t,
            mem_gb=m,
            cache="FALSE",
            chk=make_chk(sums),
            chk_time_sec=chkt,
            on_disk="TRUE",
            machine_type=machine_type,
        )
    os.remove(answer)


def rows_of(path):
    """Returns the number of rows of a CSV file with a header whose fields contain no line ends."""
    with open(path, "rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")) - 1


def column(name):
    return lambda batch: batch.column(name)
