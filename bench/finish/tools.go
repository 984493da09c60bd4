package main

// tool is a program that does jobs. Its commands are lines of bash or Python. They can use the variables IN, LEFT and
// RIGHT (the input files), OUT (the output directory), TMP (a directory for temporary files), MB (the limit in MiB), KEY
// (the key's column) and COLUMN (its number).
type tool struct {
	name, extension string
	isPython        bool
	settings        string            // first lines of each command
	jobs            map[string]string // commands, by kind of job
	missing         string            // why there are no commands for other jobs
	advised         string            // settings that the tool's documentation advises if memory does not suffice
	advisedJobs     map[string]string // commands that differ with the advised settings
	doc             string            // URL of that advice
}

const (
	python = `import os
IN, LEFT, RIGHT, OUT, TMP, MB, KEY, COLUMN = (os.environ[n] for n in "IN LEFT RIGHT OUT TMP MB KEY COLUMN".split())
`
	duckDB = `import duckdb
sql = duckdb.connect(config={"memory_limit": MB + "MiB", "threads": 2, "temp_directory": TMP}).execute`
	polars = `os.environ |= {"POLARS_MAX_THREADS": "2", "POLARS_OOC_MEMORY_BUDGET_MB": MB, "POLARS_OOC_SPILL_DIR": TMP}
import polars as pl
read, options = pl.scan_parquet, {}`
	dataFusion = `from datafusion import RuntimeEnvBuilder, SessionConfig, SessionContext
memory = RuntimeEnvBuilder().with_temp_file_path(TMP).with_fair_spill_pool(int(MB) << 20)
context = SessionContext(SessionConfig().with_target_partitions(2), memory)
sql = lambda text: context.sql(text).collect()
for name, file in zip("rlt", (RIGHT, LEFT, IN)): context.register_parquet(name, file)`
	dask = `import dask.dataframe as dd, distributed, pyarrow
client = distributed.Client(n_workers=2, threads_per_worker=1, memory_limit=f"{int(MB) // 2}MiB", local_directory=TMP)
read = dd.read_parquet`
)

var tools = []*tool{
	{
		name: "partd", extension: ".csv", settings: `export TMPDIR="$TMP"`,
		jobs: map[string]string{
			"split":    `partd split --by "$KEY" --memory "$MB"MiB --dir "$OUT" "$IN"`,
			"sort":     `partd sort --by "$KEY" --memory "$MB"MiB -o "$OUT"/data.csv "$IN"`,
			"list":     `partd group --by "$KEY" --agg "list(text)" --memory "$MB"MiB -o "$OUT"/data.csv "$IN"`,
			"join":     `partd join --on key --memory "$MB"MiB -o "$OUT"/data.csv "$LEFT" "$RIGHT"`,
			"distinct": `partd distinct --memory "$MB"MiB -o "$OUT"/data.csv "$LEFT" "$LEFT"`,
		},
	},
	{
		name: "partd-tables", extension: ".parquet", settings: `export TMPDIR="$TMP"`,
		jobs: map[string]string{
			"split":    `partd-tables split --by "$KEY" --memory "$MB"MiB -o "$OUT" "$IN"`,
			"sort":     `partd-tables sort --by "$KEY" --memory "$MB"MiB -o "$OUT"/data.parquet "$IN"`,
			"list":     `partd-tables each --by "$KEY" --memory "$MB"MiB -o "$OUT"/data.parquet "SELECT $KEY, list(text) AS text FROM t GROUP BY $KEY" t="$IN"`,
			"join":     `partd-tables each --by key --memory "$MB"MiB -o "$OUT"/data.parquet 'SELECT * FROM l JOIN r USING (key)' l="$LEFT" r="$RIGHT"`,
			"distinct": `partd-tables each --by id --memory "$MB"MiB -o "$OUT"/data.parquet 'SELECT DISTINCT * FROM l' l="$LEFT" l="$LEFT"`,
		},
	},
	{
		name: "DuckDB", extension: ".parquet", isPython: true, settings: duckDB,
		jobs: map[string]string{
			"split":    `sql(f"COPY (FROM '{IN}') TO '{OUT}' (FORMAT parquet, PARTITION_BY ({KEY}))")`,
			"sort":     `sql(f"COPY (FROM '{IN}' ORDER BY {KEY}) TO '{OUT}/data.parquet'")`,
			"list":     `sql(f"COPY (SELECT {KEY}, list(text) AS text FROM '{IN}' GROUP BY {KEY}) TO '{OUT}/data.parquet'")`,
			"join":     `sql(f"COPY (FROM '{LEFT}' JOIN '{RIGHT}' USING (key)) TO '{OUT}/data.parquet'")`,
			"distinct": `sql(f"COPY (SELECT DISTINCT * FROM read_parquet(['{LEFT}', '{LEFT}'])) TO '{OUT}/data.parquet'")`,
		},
		advised: duckDB + `
sql("SET threads = 1; SET preserve_insertion_order = false; SET partitioned_write_max_open_files = 10")`,
		doc: "https://duckdb.org/docs/current/guides/performance/oom",
	},
	{
		name: "polars", extension: ".parquet", isPython: true, settings: polars,
		jobs: map[string]string{
			"split":    `read(IN).sink_parquet(pl.PartitionBy(OUT, key=KEY), mkdir=True, **options)`,
			"sort":     `read(IN).sort(KEY).sink_parquet(OUT + "/data.parquet", **options)`,
			"list":     `read(IN).group_by(KEY).agg("text").sink_parquet(OUT + "/data.parquet", **options)`,
			"join":     `read(LEFT).join(read(RIGHT), on="key").sink_parquet(OUT + "/data.parquet", **options)`,
			"distinct": `read([LEFT, LEFT]).unique().sink_parquet(OUT + "/data.parquet", **options)`,
		},
		advised: polars + `
options = {"engine": "streaming", "row_group_size": 10_000}`,
		doc: "https://docs.pola.rs/api/python/stable/reference/api/polars.LazyFrame.sink_parquet.html",
	},
	{
		name: "DataFusion", extension: ".parquet", isPython: true, settings: dataFusion,
		jobs: map[string]string{
			"split":    `sql(f"COPY t TO '{OUT}/' STORED AS PARQUET PARTITIONED BY ({KEY})")`,
			"sort":     `sql(f"COPY (SELECT * FROM t ORDER BY {KEY}) TO '{OUT}/data.parquet'")`,
			"list":     `sql(f"COPY (SELECT {KEY}, array_agg(text) AS text FROM t GROUP BY {KEY}) TO '{OUT}/data.parquet'")`,
			"join":     `sql(f"COPY (SELECT * FROM l JOIN r USING (key)) TO '{OUT}/data.parquet'")`,
			"distinct": `sql(f"COPY (SELECT DISTINCT * FROM (SELECT * FROM l UNION ALL SELECT * FROM l)) TO '{OUT}/data.parquet'")`,
		},
		advised: dataFusion + `
for setting in ("execution.target_partitions = 1", "execution.batch_size = 1024", "optimizer.prefer_hash_join = false"): sql("SET datafusion." + setting)`,
		doc: "https://datafusion.apache.org/user-guide/configs.html",
	},
	{
		name: "dask", extension: ".parquet", isPython: true, settings: dask,
		jobs: map[string]string{
			"split":    `read(IN).to_parquet(OUT, write_index=False, partition_on=[KEY])`,
			"sort":     `read(IN).sort_values(KEY).to_parquet(OUT, write_index=False)`,
			"list":     `read(IN).groupby(KEY).text.agg(list, split_out=True).reset_index().to_parquet(OUT, write_index=False, schema={"text": pyarrow.list_(pyarrow.string())})`,
			"join":     `read(LEFT).merge(read(RIGHT), on="key").to_parquet(OUT, write_index=False)`,
			"distinct": `read([LEFT, LEFT]).drop_duplicates(split_out=True).to_parquet(OUT, write_index=False)`,
		},
		advised: `import dask, dask.dataframe as dd, pyarrow
dask.config.set({"dataframe.shuffle.method": "disk", "temporary_directory": TMP, "scheduler": "threads", "num_workers": 2})
read = lambda files: dd.read_parquet(files, blocksize="16MiB")`,
		advisedJobs: map[string]string{"split": `read(IN).shuffle(KEY).to_parquet(OUT, write_index=False, partition_on=[KEY])`},
		doc:         "https://docs.dask.org/en/stable/dataframe-groupby.html",
	},
	{
		name: "GNU sort", extension: ".csv",
		settings: `export LC_ALL=C; by() { sort -t, -k"$1","$1" -S"$MB"M --parallel=2 -T "$TMP"; }`,
		jobs: map[string]string{
			"split":    `tail -n +2 "$IN" | by "$COLUMN" | awk -F, -v c="$COLUMN" '$c != k { close(f); k = $c; f = ENVIRON["OUT"] "/" k ".csv" } { print >f }'`,
			"sort":     `(head -n 1 "$IN"; tail -n +2 "$IN" | by "$COLUMN") >"$OUT"/data.csv`,
			"list":     `tail -n +2 "$IN" | by "$COLUMN" | awk -F, -v c="$COLUMN" 'BEGIN { printf ENVIRON["KEY"] ",text" } $c == k { printf ";%s", $6; next } { k = $c; printf "\n%s,%s", k, $6 } END { print "" }' >"$OUT"/data.csv`,
			"join":     `for side in "$LEFT 2" "$RIGHT 1"; do set -- $side; tail -n +2 "$1" | by "$2" >"$TMP/$2"; done; (echo key,id,v,text,w,more; join -t, -1 2 "$TMP"/2 "$TMP"/1) >"$OUT"/data.csv`,
			"distinct": `(head -n 1 "$LEFT"; tail -q -n +2 "$LEFT" "$LEFT" | sort -u -S"$MB"M --parallel=2 -T "$TMP") >"$OUT"/data.csv`,
		},
	},
	{
		name: "Miller", extension: ".csv",
		jobs: map[string]string{
			"split":    `mlr --csv split -g "$KEY" --prefix "$OUT"/part "$IN"`,
			"sort":     `mlr --csv sort -f "$KEY" "$IN" >"$OUT"/data.csv`,
			"list":     `mlr --csv cut -f "$KEY",text then nest --ivar ";" -f text "$IN" >"$OUT"/data.csv`,
			"join":     `mlr --csv join -j key -f "$LEFT" "$RIGHT" >"$OUT"/data.csv`,
			"distinct": `mlr --csv uniq -a "$LEFT" "$LEFT" >"$OUT"/data.csv`,
		},
	},
	{
		name: "Python's partd", extension: ".csv", isPython: true,
		settings: `from partd import Buffer, Dict, File
store = Buffer(Dict(), File(OUT), available_memory=int(MB) << 19)`,
		jobs: map[string]string{"split": `with open(IN, "rb") as rows:
    rows.readline()
    while lines := rows.readlines(16_000_000):
        groups = {}
        for line in lines: groups.setdefault(line.split(b",")[int(COLUMN) - 1], []).append(line)
        store.append({key.decode(): b"".join(group) for key, group in groups.items()})
store.flush()`},
		missing: "it only appends bytes under keys",
	},
}
