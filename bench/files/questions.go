package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// question is one of the db-benchmark's fifteen questions: a grouping of the table x, or a
// join of x with another table.
type question struct {
	name, title string

	keys       []string
	aggregates []string // in the syntax of partd's --agg; largest2(v3) means the two largest values of each group

	// awk holds gawk's statements for a row with the key k. print holds the arguments of gawk's
	// print for each key k. Both are "" if gawk and Miller do not answer the question.
	awk, print string

	right      string // name of the table to join with x; "" for a grouping
	joinColumn string
	joinKind   string // "inner" or "left"
}

var groupings = []question{
	{name: "q1", title: "sum v1 by id1", keys: []string{"id1"}, aggregates: []string{"sum(v1)"}, awk: "a[k] += $7", print: "a[k]"},
	{name: "q2", title: "sum v1 by id1, id2", keys: []string{"id1", "id2"}, aggregates: []string{"sum(v1)"}, awk: "a[k] += $7", print: "a[k]"},
	{
		name: "q3", title: "sum v1, mean v3 by id3", keys: []string{"id3"}, aggregates: []string{"sum(v1)", "mean(v3)"},
		awk: `a[k] += $7; c[k] += $9; n[k] += $9 != ""`, print: "a[k], c[k] / n[k]",
	},
	{
		name: "q4", title: "mean v1, v2, v3 by id4", keys: []string{"id4"}, aggregates: []string{"mean(v1)", "mean(v2)", "mean(v3)"},
		awk: `a[k] += $7; b[k] += $8; c[k] += $9; l[k] += $7 != ""; m[k] += $8 != ""; n[k] += $9 != ""`, print: "a[k] / l[k], b[k] / m[k], c[k] / n[k]",
	},
	{
		name: "q5", title: "sum v1, v2, v3 by id6", keys: []string{"id6"}, aggregates: []string{"sum(v1)", "sum(v2)", "sum(v3)"},
		awk: "a[k] += $7; b[k] += $8; c[k] += $9", print: "a[k], b[k], c[k]",
	},
	{name: "q6", title: "median v3, stddev v3 by id4, id5", keys: []string{"id4", "id5"}, aggregates: []string{"median(v3)", "stddev(v3)"}},
	{
		name: "q7", title: "max v1, min v2 by id3", keys: []string{"id3"}, aggregates: []string{"max(v1)", "min(v2)"},
		awk: `if ($7 > a[k]) a[k] = $7; if ($8 != "" && (!(k in b) || $8 < b[k])) b[k] = $8`, print: "a[k], b[k]",
	},
	{name: "q8", title: "two largest v3 by id6", keys: []string{"id6"}, aggregates: []string{"largest2(v3)"}},
	{name: "q9", title: "regr_r2 v2, v1 by id2, id4", keys: []string{"id2", "id4"}, aggregates: []string{"regr_r2(v2,v1)"}},
	{
		name: "q10", title: "sum v3, count by id1 to id6",
		keys: []string{"id1", "id2", "id3", "id4", "id5", "id6"}, aggregates: []string{"sum(v3)", "count"},
	},
}

var joins = []question{
	{name: "j1", title: "small inner on id1", right: "small", joinColumn: "id1", joinKind: "inner"},
	{name: "j2", title: "medium inner on id2", right: "medium", joinColumn: "id2", joinKind: "inner"},
	{name: "j3", title: "medium left outer on id2", right: "medium", joinColumn: "id2", joinKind: "left"},
	{name: "j4", title: "medium inner on id5, text", right: "medium", joinColumn: "id5", joinKind: "inner"},
	{name: "j5", title: "big inner on id3", right: "big", joinColumn: "id3", joinKind: "inner"},
}

func (q *question) hasLargest() bool { return slices.Contains(q.aggregates, "largest2(v3)") }

func questionJobs() (jobs []job) {
	for _, q := range slices.Concat(groupings, joins) {
		j := job{name: q.name, title: q.title, question: &q, contenders: []contender{
			{peer: "partd", label: "partd", command: q.partd},
			{peer: "duckdb", label: "DuckDB", command: q.duckdb},
			{peer: "polars", label: "polars", command: q.polars},
			{peer: "datafusion", label: "DataFusion", command: q.datafusion},
		}}
		if q.awk != "" {
			j.contenders = append(j.contenders, contender{peer: "gawk", label: "gawk", command: q.gawk}, contender{peer: "miller", label: "Miller", command: q.miller})
		}
		jobs = append(jobs, j)
	}
	return jobs
}

func resultPath(outDir string) string { return filepath.Join(outDir, "result.csv") }

func (q *question) partd(f *flags, src *input, outDir string) *exec.Cmd {
	args := []string{"--by", strings.Join(q.keys, ","), "--agg", strings.Join(q.aggregates, ",")}
	command := "group"
	switch {
	case q.hasLargest():
		command, args = "top", []string{"--per", q.keys[0], "--by", "v3:n", "-n", "2"}
	case q.right != "":
		command, args = "join", []string{"--on", q.joinColumn, "--how", q.joinKind}
	}
	args = append([]string{
		command, "--memory", strconv.FormatInt(int64(f.memory), 10), "--threads", strconv.Itoa(f.threads),
		"--quiet", "--tmp", outDir, "-o", resultPath(outDir),
	}, args...)
	for _, t := range src.tables {
		args = append(args, t.path)
	}
	return exec.Command(f.partd, args...)
}

// sql returns the query for DuckDB and DataFusion, except for a question with largest2, which these
// two programs express differently.
func (q *question) sql() string {
	if q.right == "" {
		list := strings.ReplaceAll(strings.Join(slices.Concat(q.keys, q.aggregates), ", "), "count", "count(*)")
		return fmt.Sprintf("SELECT %s FROM x GROUP BY %s", list, strings.Join(q.keys, ", "))
	}
	return fmt.Sprintf("SELECT x.%s, x.* EXCLUDE (%[1]s), %[2]s.* EXCLUDE (%[1]s) FROM x %[3]s JOIN %[2]s ON x.%[1]s = %[2]s.%[1]s", q.joinColumn, q.right, q.joinKind)
}

// columnList formats the name and the type of each column and joins the results with commas.
func (t *table) columnList(format string) string {
	var columns []string
	for i, c := range t.columns {
		columns = append(columns, fmt.Sprintf(format, c, t.types[i]))
	}
	return strings.Join(columns, ", ")
}

func (q *question) duckdb(f *flags, src *input, outDir string) *exec.Cmd {
	sql := q.sql()
	if q.hasLargest() {
		sql = "SELECT id6, unnest(max(v3, 2)) FROM x WHERE v3 IS NOT NULL GROUP BY id6"
	}
	var statements []string
	for _, t := range src.tables {
		statements = append(statements, fmt.Sprintf("CREATE VIEW %s AS FROM read_csv(%s, header = true, delim = ',', quote = '', escape = '', auto_detect = false, columns = {%s})",
			t.name, sqlString(t.path), t.columnList("'%s': '%s'")))
	}
	return f.duckdbCommand(outDir, append(statements, copyTo(sql, resultPath(outDir), ", HEADER"))...)
}

const datafusionProgram = `
import datafusion, sys
c = datafusion.SessionContext()
for statement in sys.argv[1:]:
    c.sql(statement).collect()
`

func (q *question) datafusion(f *flags, src *input, outDir string) *exec.Cmd {
	sql := q.sql()
	if q.hasLargest() {
		sql = "SELECT id6, v3 FROM (SELECT id6, v3, row_number() OVER (PARTITION BY id6 ORDER BY v3 DESC) AS n FROM x WHERE v3 IS NOT NULL) WHERE n <= 2"
	}
	statements := []string{
		"SET datafusion.execution.target_partitions = " + strconv.Itoa(f.threads),
		fmt.Sprintf("SET datafusion.runtime.memory_limit = '%dK'", f.duckdbMemory/1024),
		"SET datafusion.runtime.temp_directory = " + sqlString(outDir),
	}
	for _, t := range src.tables {
		statements = append(statements, fmt.Sprintf("CREATE EXTERNAL TABLE %s (%s) STORED AS CSV LOCATION %s OPTIONS ('format.has_header' 'true')",
			t.name, t.columnList("%s %s"), sqlString(t.path)))
	}
	statements = append(statements, fmt.Sprintf("COPY (%s) TO %s STORED AS CSV", sql, sqlString(resultPath(outDir))))
	return exec.Command(f.datafusion, append([]string{"-c", datafusionProgram}, statements...)...)
}

func (q *question) gawk(_ *flags, src *input, outDir string) *exec.Cmd {
	var key []string
	for _, k := range q.keys {
		key = append(key, "$"+k[2:])
	}
	program := fmt.Sprintf(`BEGIN { print "answer" } NR > 1 { k = %s; groups[k]; %s } END { for (k in groups) print k, %s }`, strings.Join(key, ` "," `), q.awk, q.print)
	return script(`gawk -b -F, -v OFS=, -v OFMT=%.17g "$3" "$1" > "$2"/result.csv`, src.tables[0].path, outDir, program)
}

// miller computes all aggregates of all columns and then keeps only the requested ones, because
// Miller cannot aggregate each column differently.
func (q *question) miller(_ *flags, src *input, outDir string) *exec.Cmd {
	var functions, columns, selected []string
	for _, a := range q.aggregates {
		name, column, _ := strings.Cut(strings.TrimSuffix(a, ")"), "(")
		functions, columns, selected = append(functions, name), append(columns, column), append(selected, column+"_"+name)
	}
	slices.Sort(functions)
	return script(`mlr --icsv --ocsv stats1 -a "$3" -f "$4" -g "$5" then cut -o -f "$5,$6" "$1" > "$2"/result.csv`, src.tables[0].path, outDir,
		strings.Join(slices.Compact(functions), ","), strings.Join(columns, ","), strings.Join(q.keys, ","), strings.Join(selected, ","))
}
