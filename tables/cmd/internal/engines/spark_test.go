package engines

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

// sparkTable is a table that Spark and the server's own clients take turns changing.
type sparkTable struct {
	*server
	t       *testing.T
	name    string
	flight  *flightClient
	engines map[string]*engine
	columns []column
}

// parse returns the rows in a text such as "a 1 0.5, b 2 -", where - is null.
func (x *sparkTable) parse(text string) (rows []record) {
	for line := range strings.SplitSeq(text, ", ") {
		row := record{}
		for i, v := range strings.Fields(line) {
			switch c := x.columns[i]; {
			case v == "-":
			case c.kind == "string":
				row[c.name] = v
			case c.kind == "int", c.kind == "long":
				row[c.name] = must.Get(strconv.ParseInt(v, 10, 64))(x.t)
			default:
				row[c.name] = must.Get(strconv.ParseFloat(v, 64))(x.t)
			}
		}
		if len(row) > 0 {
			rows = append(rows, row)
		}
	}
	return rows
}

func (x *sparkTable) put(rows string, mode tables.PutMode) {
	x.t.Helper()
	must.Do(x.t, x.flight.put(x.name, x.columns, x.parse(rows), mode))
}

// spark runs a statement after replacing $t by the table's name.
func (x *sparkTable) spark(statement string) []record {
	x.t.Helper()
	rows := must.Get(x.engines["spark"].tryRun("run", "statement", strings.ReplaceAll(statement, "$t", "partd."+x.name)))(x.t)
	return rows
}

// checkRows checks that all readers see the rows. If ref is not "", it names the branch or tag to read.
func (x *sparkTable) checkRows(after, ref, rows string) {
	x.t.Helper()
	want := rowLines(x.parse(rows))
	var at tables.At
	var arguments []any
	if ref != "" {
		id, version := x.snapshot(ref)
		at, arguments = tables.AtVersion(version), []any{"snapshot", id}
	}
	bucket, name := splitName(x.name)
	var readers sync.WaitGroup
	for _, reader := range []string{"own", "sql", "spark", "pyiceberg", "duckdb"} {
		readers.Go(func() {
			var got []record
			var err error
			switch reader {
			case "own":
				got, err = readRecords(x.flight.c.Scan(x.t.Context(), bucket, name, at, nil))
			case "sql":
				got, err = readRecords(x.flight.c.Query(x.t.Context(), `SELECT * FROM "`+name+`"`, &tables.QueryOptions{Bucket: bucket, At: at}))
			default:
				got, err = x.engines[reader].tryRun("rows", append([]any{"table", x.name}, arguments...)...)
			}
			if err != nil {
				x.t.Errorf("read with %s, after %s: %v", reader, after, err)
			} else if d := firstDifference(rowLines(got), want); d != "" {
				x.t.Errorf("read with %s, after %s: %s", reader, after, d)
			}
		})
	}
	readers.Wait()
}

func (x *sparkTable) snapshot(ref string) (id int64, version tables.Version) {
	x.t.Helper()
	bucket, name := splitName(x.name)
	a := x.send("GET", tablePath(bucket, name), nil)
	id = a.number("metadata", "refs", ref, "snapshot-id")
	for _, s := range a.value("metadata", "snapshots").([]any) {
		if s := (answer{body: s.(map[string]any)}); s.number("snapshot-id") == id {
			return id, tables.Version(s.number("sequence-number"))
		}
	}
	x.t.Fatalf("no snapshot for ref %q: %s", ref, a.raw)
	return 0, 0
}

// checkMetadata checks Spark's metadata tables against the catalog's answer.
func (x *sparkTable) checkMetadata() {
	x.t.Helper()
	bucket, name := splitName(x.name)
	a := x.send("GET", tablePath(bucket, name), nil)
	current := a.number("metadata", "current-snapshot-id")
	snapshots, history := a.value("metadata", "snapshots").([]any), a.value("metadata", "snapshot-log").([]any)
	if n := len(x.spark("SELECT * FROM $t.snapshots")); n != len(snapshots) {
		x.t.Errorf("Spark sees %d snapshots, want %d", n, len(snapshots))
	}
	if got := x.spark("SELECT snapshot_id FROM $t.history ORDER BY made_current_at"); len(got) != len(history) || fmt.Sprint(got[len(got)-1]["snapshot_id"]) != fmt.Sprint(current) {
		x.t.Errorf("Spark's history is %v, want %v", got, history)
	}
	live := x.spark("SELECT sum(if(content = 0, record_count, -record_count)) AS n FROM $t.files")
	if got := x.spark("SELECT count(*) AS n FROM $t"); fmt.Sprint(got) != fmt.Sprint(live) {
		x.t.Errorf("Spark counts %v rows in the table, but %v in its files", got, live)
	}
}

// checkReplacement checks that Spark's metadata tables and changelog agree that the newest snapshot replaced all rows.
func (x *sparkTable) checkReplacement() {
	x.t.Helper()
	current, _ := x.snapshot("main")
	parent := fmt.Sprint(x.spark(fmt.Sprintf("SELECT parent_id FROM $t.snapshots WHERE snapshot_id = %d", current))[0]["parent_id"])
	for _, q := range []struct{ what, got, want string }{
		{"deleted files", fmt.Sprintf("SELECT data_file.file_path f FROM $t.entries WHERE status = 2 AND snapshot_id = %d", current), "SELECT file_path f FROM $t.files VERSION AS OF " + parent},
		{"added files", fmt.Sprintf("SELECT data_file.file_path f FROM $t.entries WHERE status = 1 AND snapshot_id = %d", current), "SELECT file_path f FROM $t.files"},
		{
			"numbers of files in the manifest list", "SELECT sum(added_data_files_count) a, sum(existing_data_files_count) e, sum(deleted_data_files_count) d FROM $t.manifests",
			"SELECT sum(int(status = 1)) a, sum(int(status = 0)) e, sum(int(status = 2)) d FROM $t.entries",
		},
		{
			"summary", fmt.Sprintf("SELECT bigint(summary['total-records']) r, bigint(summary['deleted-records']) d FROM $t.snapshots WHERE snapshot_id = %d", current),
			"SELECT count(*) r, (SELECT count(*) FROM $t VERSION AS OF " + parent + ") d FROM $t",
		},
	} {
		got, want := rowLines(x.spark(q.got)), rowLines(x.spark(q.want))
		if d := firstDifference(got, want); d != "" {
			x.t.Errorf("after a replacement, Spark's %s: %s", q.what, d)
		}
	}
	view := strings.ReplaceAll(x.name, ".", "_")
	x.spark(fmt.Sprintf("CALL partd.system.create_changelog_view(table => '$t', changelog_view => '%s', options => map('start-snapshot-id', '%s', 'end-snapshot-id', '%d'))", view, parent, current))
	changes := fmt.Sprint(x.spark("SELECT _change_type c, count(*) n FROM " + view + " GROUP BY ALL ORDER BY c"))
	n, deleted := x.spark("SELECT count(*) n FROM $t")[0]["n"], x.spark("SELECT count(*) n FROM $t VERSION AS OF " + parent)[0]["n"]
	if want := fmt.Sprint([]record{{"c": "DELETE", "n": deleted}, {"c": "INSERT", "n": n}}); changes != want {
		x.t.Errorf("Spark's changelog of a replacement has %s, want %s", changes, want)
	}
}

// testReplacements alternates puts that replace all rows with Spark statements.
func (x *sparkTable) testReplacements(create string) {
	x.t.Helper()
	x.spark("CREATE NAMESPACE IF NOT EXISTS partd.spark")
	x.spark(create)
	spark := func(statement, rows string) {
		x.t.Helper()
		x.spark(statement)
		x.checkRows(statement, "", rows)
	}
	replace := func(rows string) {
		x.t.Helper()
		x.put(rows, tables.PutReplace)
		x.checkRows("replace by "+rows, "", rows)
		x.checkReplacement()
		x.checkMetadata()
	}
	spark("INSERT INTO $t VALUES ('a', 1)", "a 1")
	spark("INSERT INTO $t VALUES ('b', 2)", "a 1, b 2")
	spark("ALTER TABLE $t CREATE TAG v", "a 1, b 2")
	replace("c 3, c 4")
	x.checkRows("a replacement", "v", "a 1, b 2")
	spark("INSERT INTO $t VALUES ('d', 5)", "c 3, c 4, d 5")
	spark("CALL partd.system.rewrite_manifests('$t')", "c 3, c 4, d 5")
	replace("e 6, f 7")
	spark("UPDATE $t SET n = 8 WHERE n = 7", "e 6, f 8")
	replace("g 9")
	spark("DELETE FROM $t WHERE n = 9", "")
	x.put("h 10", tables.PutReplace)
	spark("CALL partd.system.expire_snapshots(table => '$t', older_than => now(), retain_last => 1)", "h 10")
	x.checkRows("expire_snapshots", "v", "a 1, b 2")
	x.checkMetadata()
	x.spark("DROP TABLE $t")
}

// testVectors marks rows of one data file as deleted, in turn with Spark and our own statements. All counts must agree.
func (x *sparkTable) testVectors() {
	x.t.Helper()
	x.spark("CREATE NAMESPACE IF NOT EXISTS partd.spark")
	x.spark("CREATE TABLE $t (k string, n int) USING iceberg TBLPROPERTIES ('format-version' = '3', 'write.delete.mode' = 'merge-on-read', " +
		"'write.update.mode' = 'merge-on-read', 'write.merge.mode' = 'merge-on-read')")
	x.put("a 0, b 1, c 2, d 3, e 4, f 5, g 6, h 7", tables.PutAppend)
	bucket, name := splitName(x.name)
	check := func(after, rows string) {
		x.t.Helper()
		info, _, err := x.flight.c.Describe(x.t.Context(), bucket, name, nil)
		counts, queryErr := readRecords(x.flight.c.Query(x.t.Context(), `SELECT count(*) c FROM "`+name+`" UNION ALL SELECT count(k) FROM "`+name+`"`, &tables.QueryOptions{Bucket: bucket}))
		all, allErr := readRecords(x.flight.c.Query(x.t.Context(), `SELECT count(*) c FROM "`+name+`"`, &tables.QueryOptions{Bucket: bucket})) // needs no DuckDB
		want := fmt.Sprint(len(x.parse(rows)))
		got := fmt.Sprint(info.Rows, " ", counts, " ", all)
		if err := errors.Join(err, queryErr, allErr); err != nil || got != fmt.Sprintf("%s [map[c:%[1]s] map[c:%[1]s]] [map[c:%[1]s]]", want) {
			x.t.Errorf("after %s, the numbers of rows are %s, %v; want %s", after, got, err, want)
		}
	}
	merge := func(delete, update int, rows string) {
		x.t.Helper()
		x.spark(fmt.Sprintf("MERGE INTO $t t USING (SELECT * FROM VALUES (%d, 'x'), (%d, 'y') AS v (n, k)) s ON t.n = s.n WHEN MATCHED AND s.k = 'x' THEN DELETE WHEN MATCHED THEN UPDATE SET k = s.k", delete, update))
		check("MERGE", rows)
	}
	merge(0, 1, "y 1, c 2, d 3, e 4, f 5, g 6, h 7")
	merge(2, 3, "y 1, y 3, e 4, f 5, g 6, h 7")
	merge(4, 1, "y 1, y 3, f 5, g 6, h 7")
	if _, err := x.flight.c.Exec(x.t.Context(), `DELETE FROM "`+name+`" WHERE n IN (3, 5)`, &tables.ExecOptions{Bucket: bucket}); err != nil {
		x.t.Error(err)
	}
	check("our DELETE", "y 1, g 6, h 7")
	x.checkRows("our DELETE", "", "y 1, g 6, h 7")
	merge(6, 7, "y 1, y 7")
	x.spark("CALL partd.system.rewrite_data_files(table => '$t', options => map('rewrite-all', 'true'))")
	check("rewrite_data_files", "y 1, y 7")
	if _, err := x.flight.c.Compact(x.t.Context(), nil); err != nil {
		x.t.Error(err)
	}
	check("compact", "y 1, y 7")
	x.checkRows("compact", "", "y 1, y 7")
	x.spark("DROP TABLE $t")
}

// testSpark alternates Spark statements with puts, and checks after each one that all readers see the same rows.
func (s *server) testSpark(t *testing.T, client *flightClient, engines map[string]*engine) {
	t.Run("changes", func(t *testing.T) { s.testChanges(t, engines["spark"]) })
	t.Run("types", func(t *testing.T) { s.testColumnTypes(t, client, engines["spark"], engines["pyiceberg"]) })
	for name, create := range map[string]string{
		"replaced":  "CREATE TABLE $t (k string, n int) USING iceberg",
		"replaced3": "CREATE TABLE $t (k string, n int) USING iceberg TBLPROPERTIES ('format-version' = '3')",
	} {
		t.Run(name, func(t *testing.T) {
			(&sparkTable{server: s, t: t, name: "spark." + name, flight: client, engines: engines, columns: []column{{"k", "string"}, {"n", "int"}}}).testReplacements(create)
		})
	}
	t.Run("vectors", func(t *testing.T) {
		(&sparkTable{server: s, t: t, name: "spark.vectors", flight: client, engines: engines, columns: []column{{"k", "string"}, {"n", "int"}}}).testVectors()
	})
	for name, create := range map[string]string{
		"ours": "",
		"sparks": "CREATE TABLE $t (k string, n int, x float) USING iceberg PARTITIONED BY (k) TBLPROPERTIES ('format-version' = '3', " +
			"'write.delete.mode' = 'merge-on-read', 'write.update.mode' = 'merge-on-read', 'write.merge.mode' = 'merge-on-read')",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			x := &sparkTable{server: s, t: t, name: "spark." + name, flight: client, engines: engines, columns: []column{{"k", "string"}, {"n", "int"}, {"x", "float"}}}
			step := func(statement, rows string) {
				t.Helper()
				if strings.HasPrefix(statement, "put ") {
					x.put(strings.TrimPrefix(statement, "put "), tables.PutAppend)
				} else {
					x.spark(statement)
				}
				x.checkRows(statement, "", rows)
				t.Logf("%s %s", time.Since(start).Round(time.Millisecond), statement)
			}
			if x.spark("CREATE NAMESPACE IF NOT EXISTS partd.spark"); create != "" {
				step(create, "")
			}
			step("put a 1 0.5, b 2 1.5", "a 1 0.5, b 2 1.5")
			step("INSERT INTO $t VALUES ('c', 3, 2.5), ('a', 4, NULL)", "a 1 0.5, b 2 1.5, c 3 2.5, a 4 -")
			step("put b 5 -", "a 1 0.5, b 2 1.5, c 3 2.5, a 4 -, b 5 -")
			step("MERGE INTO $t t USING (SELECT * FROM VALUES ('a', 1, -1), ('b', 5, 5), ('d', 6, 6) AS v (k, n, x)) s ON t.n = s.n WHEN MATCHED AND s.x < 0 THEN DELETE "+
				"WHEN MATCHED THEN UPDATE SET x = s.x WHEN NOT MATCHED THEN INSERT *", "b 2 1.5, c 3 2.5, a 4 -, b 5 5, d 6 6")
			step("put d 7 7, - 8 -", "b 2 1.5, c 3 2.5, a 4 -, b 5 5, d 6 6, d 7 7, - 8 -")
			x.spark("ALTER TABLE $t SET TBLPROPERTIES ('write.delete.mode' = 'merge-on-read', 'write.update.mode' = 'merge-on-read')")
			step("UPDATE $t SET x = n + 0.25 WHERE n > 6", "b 2 1.5, c 3 2.5, a 4 -, b 5 5, d 6 6, d 7 7.25, - 8 8.25")
			step("DELETE FROM $t WHERE k = 'b' OR n = 6", "c 3 2.5, a 4 -, d 7 7.25, - 8 8.25")
			step("put a 9 9", "c 3 2.5, a 4 -, d 7 7.25, - 8 8.25, a 9 9")
			x.spark("ALTER TABLE $t ALTER COLUMN n TYPE bigint")
			x.columns[1].kind = "long"
			step("put e 4294967296 0.5", "c 3 2.5, a 4 -, d 7 7.25, - 8 8.25, a 9 9, e 4294967296 0.5")
			x.columns[2].kind = "double"
			step("ALTER TABLE $t ALTER COLUMN x TYPE double", "c 3 2.5, a 4 -, d 7 7.25, - 8 8.25, a 9 9, e 4294967296 0.5")
			step("put e 10 1e300", "c 3 2.5, a 4 -, d 7 7.25, - 8 8.25, a 9 9, e 4294967296 0.5, e 10 1e300")
			x.checkMetadata()

			main := "c 3 2.5, a 4 -, e 4294967296 0.5, e 10 1e300"
			step("DELETE FROM $t WHERE n BETWEEN 7 AND 9", main)
			x.spark("ALTER TABLE $t CREATE BRANCH b")
			x.spark("INSERT INTO $t.branch_b VALUES ('f', 11, 11)")
			x.spark("DELETE FROM $t.branch_b WHERE n = 3")
			branch := "a 4 -, e 4294967296 0.5, e 10 1e300, f 11 11"
			x.checkRows("writes to a branch", "b", branch)
			step("put g 12 12", main+", g 12 12")
			x.checkRows("a put", "b", branch)
			step("ALTER TABLE $t CREATE TAG v", main+", g 12 12")
			step("put g 13 13", main+", g 12 12, g 13 13")
			x.checkRows("a put", "v", main+", g 12 12")
			tag, _ := x.snapshot("v")
			step(fmt.Sprintf("CALL partd.system.rollback_to_snapshot('$t', %d)", tag), main+", g 12 12")
			step("put h 14 14", main+", g 12 12, h 14 14")
			step("CALL partd.system.rewrite_data_files(table => '$t', options => map('rewrite-all', 'true'))", main+", g 12 12, h 14 14")
			step("CALL partd.system.rewrite_manifests('$t')", main+", g 12 12, h 14 14")
			step("put h 15 15", main+", g 12 12, h 14 14, h 15 15")
			step("CALL partd.system.expire_snapshots(table => '$t', older_than => now(), retain_last => 1)", main+", g 12 12, h 14 14, h 15 15")
			x.checkRows("expire_snapshots", "b", branch)
			x.checkRows("expire_snapshots", "v", main+", g 12 12")
			x.checkMetadata()
			rowIDs := func() (rows []record) {
				if name == "sparks" { // format version 3
					rows = x.spark("SELECT n, _row_id, _last_updated_sequence_number FROM $t ORDER BY n")
				}
				return rows
			}
			before := fmt.Sprint(rowIDs())
			for range 2 {
				must.Get(client.c.Compact(t.Context(), nil))(t)
				must.Get(client.c.Expire(t.Context(), &tables.MaintainOptions{Grace: -1}))(t)
			}
			if after := fmt.Sprint(rowIDs()); after != before {
				t.Errorf("after a compaction, Spark sees the row IDs %s, want %s as before", after, before)
			}
			x.checkRows("compact and expire", "", main+", g 12 12, h 14 14, h 15 15")
			x.checkRows("compact and expire", "b", branch)
			x.checkRows("compact and expire", "v", main+", g 12 12")
			x.spark("ALTER TABLE $t DROP TAG v")
			step("INSERT OVERWRITE $t SELECT k, n, x FROM $t WHERE n < 10", "c 3 2.5, a 4 -")
			step("put i 16 16", "c 3 2.5, a 4 -, i 16 16")
			step("CALL partd.system.set_current_snapshot(table => '$t', ref => 'b')", branch)
			step("TRUNCATE TABLE $t", "")
			step("put a 17 17", "a 17 17")
			x.checkMetadata()
			x.spark("DROP TABLE $t")
		})
	}
}
