package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const duckdbProgram = `
import duckdb, sys, time
c = duckdb.connect()
for statement in sys.argv[1:]:
    start = time.monotonic()
    c.execute(statement)
print(time.monotonic() - start)
`

// duckdbRun returns a command that runs statements and prints the seconds of the last one.
// It does not preserve the insertion order, as DuckDB's manual advises for data larger than memory.
func (f *flags) duckdbRun(out string, statements ...string) *exec.Cmd {
	set := []string{
		"-c", duckdbProgram, fmt.Sprintf("SET memory_limit = '%dKB'", f.duckdbMemory/1000), "SET threads = " + strconv.Itoa(f.threads),
		"SET temp_directory = " + sqlString(filepath.Join(out, "tmp")), "SET preserve_insertion_order = false",
	}
	return exec.Command(f.duckdb, append(set, statements...)...)
}

func sqlString(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func quoteColumn(column string) string { return `"` + strings.ReplaceAll(column, `"`, `""`) + `"` }

// duckdbRows returns the input as a table expression. All columns are text, except the one
// to sum: declaring types is faster than guessing them.
func duckdbRows(in *input) string {
	if in.text {
		// The whole line is one column, because no line contains the separator.
		return "(SELECT line, " + duckdbField(in.key) + " AS key, " + duckdbField(in.value) + " AS value FROM read_csv(" +
			sqlString(in.path) + ", header = false, delim = '\x01', quote = '', escape = '', auto_detect = false, columns = {'line': 'VARCHAR'}))"
	}
	var columns []string
	for i, h := range strings.Split(in.header, ",") {
		kind := "VARCHAR"
		if i+1 == in.sumColumn {
			kind = "BIGINT"
			if h == "v2" {
				kind = "DOUBLE"
			}
		}
		columns = append(columns, sqlString(h)+": '"+kind+"'")
	}
	return fmt.Sprintf(`read_csv(%s, header = true, delim = ',', quote = '"', auto_detect = false, columns = {%s})`,
		sqlString(in.path), strings.Join(columns, ", "))
}

// duckdbField returns an expression for a field of a line of text.
func duckdbField(column int) string {
	if column < 0 {
		return `regexp_extract(line, '(\S+)\s*$', 1)`
	}
	return fmt.Sprintf(`regexp_extract(line, '^\s*(?:\S+\s+){%d}(\S+)', 1)`, column-1)
}

// columnNames returns the names of the key column and the value column.
func (in *input) columnNames() (key, value string) {
	if in.text {
		return "key", "value"
	}
	h := strings.Split(in.header, ",")
	return quoteColumn(h[in.key-1]), quoteColumn(h[in.value-1])
}

func copyTo(query, file, options string) string {
	return fmt.Sprintf("COPY (%s) TO %s (FORMAT csv%s)", query, sqlString(file), options)
}

func duckdbPartition(f *flags, in *input, out string) *exec.Cmd {
	key, _ := in.columnNames()
	return f.duckdbRun(out, copyTo("SELECT *, "+key+" AS part FROM "+duckdbRowsAsText(in), filepath.Join(out, "files"),
		", HEADER, PARTITION_BY (part)"))
}

// duckdbRowsAsText is like duckdbRows, with all columns as text.
func duckdbRowsAsText(in *input) string {
	plain := *in
	plain.sumColumn = 0
	return duckdbRows(&plain)
}

func duckdbSort(f *flags, in *input, out string) *exec.Cmd {
	key, _ := in.columnNames()
	file := filepath.Join(out, "result"+in.extension())
	if in.text {
		return f.duckdbRun(out, copyTo("SELECT line FROM "+duckdbRows(in)+" ORDER BY key", file, ", HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01'"))
	}
	return f.duckdbRun(out, copyTo("SELECT * FROM "+duckdbRowsAsText(in)+" ORDER BY "+key, file, ", HEADER"))
}

func duckdbSum(f *flags, in *input, out string) *exec.Cmd {
	key, _ := in.columnNames()
	sum := ""
	if in.sumColumn > 0 {
		sum = ", sum(" + quoteColumn(strings.Split(in.header, ",")[in.sumColumn-1]) + ")"
	}
	return f.duckdbRun(out, copyTo("SELECT "+key+", count(*)"+sum+" FROM "+duckdbRows(in)+" GROUP BY "+key,
		filepath.Join(out, "result.csv"), ", HEADER "+strconv.FormatBool(!in.text)))
}

func duckdbLists(f *flags, in *input, out string) *exec.Cmd {
	key, value := in.columnNames()
	return f.duckdbRun(out, copyTo("SELECT "+key+", string_agg("+value+", ';') FROM "+duckdbRowsAsText(in)+" GROUP BY "+key,
		filepath.Join(out, "result.csv"), ", HEADER "+strconv.FormatBool(!in.text)))
}

// duckdbValues is DuckDB's fastest method: it sorts, so that the rows of a key are adjacent.
func duckdbValues(f *flags, in *input, out string) *exec.Cmd {
	key, value := in.columnNames()
	return f.duckdbRun(out, copyTo("SELECT "+key+", "+value+" FROM "+duckdbRowsAsText(in)+" ORDER BY "+key,
		filepath.Join(out, "result.csv"), ", HEADER "+strconv.FormatBool(!in.text)))
}
