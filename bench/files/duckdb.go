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

// duckdbCommand returns a command that runs statements and prints the seconds that the last one
// took. It lets DuckDB reorder rows, as DuckDB's manual advises for data larger than memory.
func (f *flags) duckdbCommand(outDir string, statements ...string) *exec.Cmd {
	set := []string{
		"-c", duckdbProgram, fmt.Sprintf("SET memory_limit = '%dKB'", f.duckdbMemory/1000), "SET threads = " + strconv.Itoa(f.threads),
		"SET temp_directory = " + sqlString(filepath.Join(outDir, "tmp")), "SET preserve_insertion_order = false",
	}
	return exec.Command(f.duckdb, append(set, statements...)...)
}

func sqlString(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func quoteColumn(column string) string { return `"` + strings.ReplaceAll(column, `"`, `""`) + `"` }

// duckdbRows returns the input as a table expression. All columns except the column to sum have the
// type VARCHAR. The expression declares the types, because detecting them would take DuckDB longer.
func duckdbRows(src *input) string {
	if src.isText {
		// No line contains the delimiter \x01, so the whole line is one column.
		return "(SELECT line, " + duckdbField(src.keyNumber) + " AS key, " + duckdbField(src.valueNumber) + " AS value FROM read_csv(" +
			sqlString(src.path) + ", header = false, delim = '\x01', quote = '', escape = '', auto_detect = false, columns = {'line': 'VARCHAR'}))"
	}
	var columns []string
	for i, h := range strings.Split(src.header, ",") {
		sqlType := "VARCHAR"
		if i+1 == src.sumNumber {
			sqlType = "BIGINT"
			if h == "v2" {
				sqlType = "DOUBLE"
			}
		}
		columns = append(columns, sqlString(h)+": '"+sqlType+"'")
	}
	return fmt.Sprintf(`read_csv(%s, header = true, delim = ',', quote = '"', auto_detect = false, columns = {%s})`,
		sqlString(src.path), strings.Join(columns, ", "))
}

// duckdbField returns an SQL expression for one field of a line of text: the field with number
// column, or the last field if column is negative.
func duckdbField(column int) string {
	if column < 0 {
		return `regexp_extract(line, '(\S+)\s*$', 1)`
	}
	return fmt.Sprintf(`regexp_extract(line, '^\s*(?:\S+\s+){%d}(\S+)', 1)`, column-1)
}

func (src *input) columnNames() (key, value string) {
	if src.isText {
		return "key", "value"
	}
	h := strings.Split(src.header, ",")
	return quoteColumn(h[src.keyNumber-1]), quoteColumn(h[src.valueNumber-1])
}

func copyTo(query, file, options string) string {
	return fmt.Sprintf("COPY (%s) TO %s (FORMAT csv%s)", query, sqlString(file), options)
}

func duckdbPartition(f *flags, src *input, outDir string) *exec.Cmd {
	key, _ := src.columnNames()
	return f.duckdbCommand(outDir, copyTo("SELECT *, "+key+" AS part FROM "+duckdbRowsAsText(src), filepath.Join(outDir, "files"),
		", HEADER, PARTITION_BY (part)"))
}

// duckdbRowsAsText is like duckdbRows, but all columns have type VARCHAR.
func duckdbRowsAsText(src *input) string {
	textOnly := *src
	textOnly.sumNumber = 0
	return duckdbRows(&textOnly)
}

func duckdbSort(f *flags, src *input, outDir string) *exec.Cmd {
	key, _ := src.columnNames()
	file := filepath.Join(outDir, "result"+src.extension())
	if src.isText {
		return f.duckdbCommand(outDir, copyTo("SELECT line FROM "+duckdbRows(src)+" ORDER BY key", file, ", HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01'"))
	}
	return f.duckdbCommand(outDir, copyTo("SELECT * FROM "+duckdbRowsAsText(src)+" ORDER BY "+key, file, ", HEADER"))
}

func duckdbSum(f *flags, src *input, outDir string) *exec.Cmd {
	key, _ := src.columnNames()
	sum := ""
	if src.sumNumber > 0 {
		sum = ", sum(" + quoteColumn(strings.Split(src.header, ",")[src.sumNumber-1]) + ")"
	}
	return f.duckdbCommand(outDir, copyTo("SELECT "+key+", count(*)"+sum+" FROM "+duckdbRows(src)+" GROUP BY "+key,
		filepath.Join(outDir, "result.csv"), ", HEADER "+strconv.FormatBool(!src.isText)))
}

func duckdbLists(f *flags, src *input, outDir string) *exec.Cmd {
	key, value := src.columnNames()
	return f.duckdbCommand(outDir, copyTo("SELECT "+key+", string_agg("+value+", ';') FROM "+duckdbRowsAsText(src)+" GROUP BY "+key,
		filepath.Join(outDir, "result.csv"), ", HEADER "+strconv.FormatBool(!src.isText)))
}

// duckdbValues does the job "values" in DuckDB's fastest way: it sorts the rows by key instead of
// collecting each key's values in a list.
func duckdbValues(f *flags, src *input, outDir string) *exec.Cmd {
	key, value := src.columnNames()
	return f.duckdbCommand(outDir, copyTo("SELECT "+key+", "+value+" FROM "+duckdbRowsAsText(src)+" ORDER BY "+key,
		filepath.Join(outDir, "result.csv"), ", HEADER "+strconv.FormatBool(!src.isText)))
}
