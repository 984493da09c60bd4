package engines

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowext "github.com/apache/arrow-go/v18/arrow/extensions"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestMissingRights checks that a client without a right can neither read nor commit, and learns no names.
func TestMissingRights(t *testing.T) {
	t.Parallel()
	s := serveSecret(t)
	const hidden, secretTable, shown = "hiddenplace", "payroll", "shownplace"
	for _, space := range []string{hidden, shown} {
		s.mustNamespace(space)
		s.mustTable(space, secretTable)
	}
	must.Do(t, s.flightClient(t).put(hidden+"."+secretTable, []column{{"n", "long"}, {"s", "string"}}, []record{{"n": int64(1), "s": "a"}}, tables.PutAppend))
	created := s.send("GET", tablePath(hidden, secretTable), nil)
	uuid, location := created.text("metadata", "table-uuid"), created.text("metadata-location")
	before := created.raw
	id := func(space, name string) any { return map[string]any{"namespace": []string{space}, "name": name} }
	change := map[string]any{"requirements": []any{}, "updates": []any{setProperty("mine", "1")}}
	changeOf := func(space, name string) any {
		return map[string]any{"identifier": id(space, name), "requirements": []any{}, "updates": []any{setProperty("mine", "1")}}
	}
	readsAll, readsShown, writesShown := s.newToken("--read"), s.newToken("--read", "--bucket", shown), s.newToken("--admin", "--bucket", shown)
	type call struct {
		method, path string
		body         any
	}
	requestsFor := func(space, name string) []call {
		return []call{
			{"GET", namespacePath(space), nil},
			{"HEAD", namespacePath(space), nil},
			{"GET", namespacePath(space) + "/tables", nil},
			{"GET", "/v1/namespaces?parent=" + space, nil},
			{"GET", tablePath(space, name), nil},
			{"HEAD", tablePath(space, name), nil},
			{"GET", tablePath(space, name) + "?snapshots=refs", nil},
			{"POST", tablePath(space, name), change},
			{"DELETE", tablePath(space, name), nil},
			{"DELETE", tablePath(space, name) + "?purgeRequested=true", nil},
			{"POST", tablePath(space, name) + "/metrics", map[string]any{"report-type": "scan-report"}},
			{"GET", tablePath(space, name) + "/credentials", nil},
			{"DELETE", namespacePath(space), nil},
			{"POST", namespacePath(space) + "/properties", map[string]any{"removals": []string{}, "updates": map[string]string{"x": "1"}}},
			{"POST", namespacePath(space) + "/tables", map[string]any{"name": "new", "schema": schema}},
			{"POST", namespacePath(space) + "/tables", map[string]any{"name": "new", "schema": schema, "stage-create": true}},
			{"POST", "/v1/tables/rename", map[string]any{"source": id(space, name), "destination": id(shown, "stolen")}},
			{"POST", "/v1/tables/rename", map[string]any{"source": id(shown, secretTable), "destination": id(space, "given")}},
			{"POST", "/v1/transactions/commit", map[string]any{"table-changes": []any{changeOf(shown, secretTable), changeOf(space, name)}}},
		}
	}
	// Hidden names and missing names yield the same responses.
	for client, token := range map[string]string{"reader of the other namespace": readsShown, "writer of the other namespace": writesShown} {
		existing, missing := requestsFor(hidden, secretTable), requestsFor("absentplace", "absents")
		for i, c := range existing {
			a, b := s.sendAs(token, c.method, c.path, c.body), s.sendAs(token, missing[i].method, missing[i].path, missing[i].body)
			request := fmt.Sprintf("%s: %s %s", client, c.method, c.path)
			if a.code < 400 || a.code >= 500 {
				t.Errorf("%s: got %d %s, want a 4xx status", request, a.code, a.raw)
			}
			renamed := strings.NewReplacer("absentplace", hidden, "absents", secretTable)
			if a.code != b.code || a.raw != renamed.Replace(b.raw) {
				t.Errorf("%s: got %d %s, but %d %s for a missing name", request, a.code, a.raw, b.code, b.raw)
			}
			for _, secretValue := range []string{uuid, location} {
				if strings.Contains(a.raw, secretValue) {
					t.Errorf("%s reveals %q: %s", request, secretValue, a.raw)
				}
			}
		}
		if a := s.sendAs(token, "GET", "/v1/namespaces", nil); a.code != 200 || strings.Contains(a.raw, hidden) || !strings.Contains(a.raw, shown) {
			t.Errorf("%s lists namespaces: got %d %s, want only %s", client, a.code, a.raw, shown)
		}
		if a := s.sendAs(token, "POST", namespacePath(shown)+"/register", map[string]any{"name": "stolen", "metadata-location": location}); a.code < 400 || a.code >= 500 || strings.Contains(a.raw, uuid) {
			t.Errorf("%s registers hidden metadata: got %d %s, want a 4xx status", client, a.code, a.raw)
		}
	}
	for client, token := range map[string]string{"reader of all": readsAll, "reader of this namespace": readsShown} {
		for _, c := range requestsFor(shown, secretTable) {
			a := s.sendAs(token, c.method, c.path, c.body)
			if c.method == "GET" || c.method == "HEAD" || strings.HasSuffix(c.path, "/metrics") {
				if a.code >= 400 && !strings.HasSuffix(c.path, "/credentials") {
					t.Errorf("%s: %s %s: got %d %s, want success", client, c.method, c.path, a.code, a.raw)
				}
				continue
			}
			if a.code != 403 || a.text("error", "type") != "ForbiddenException" {
				t.Errorf("%s: %s %s: got %d %s, want status 403", client, c.method, c.path, a.code, a.raw)
			}
		}
		if a := s.sendAs(token, "POST", "/v1/namespaces", map[string]any{"namespace": []string{"mine"}}); a.code != 403 {
			t.Errorf("%s creates a namespace: got %d %s, want status 403", client, a.code, a.raw)
		}
	}
	if after := s.send("GET", tablePath(hidden, secretTable), nil); after.raw != before {
		t.Errorf("the hidden table changed from %s to %s", before, after.raw)
	}
	if names := listedNames(s.send("GET", namespacePath(shown)+"/tables", nil), "identifiers"); len(names) != 1 {
		t.Errorf("the shown namespace contains tables %q, want one", names)
	}

	// Engines can list and read what their token allows.
	kinds := []string{"duckdb", "pyiceberg"}
	if intFromEnv("PARTD_ROUNDS", 0) > 0 { // only in .ci/long
		kinds = append(kinds, "spark")
	}
	for _, kind := range kinds {
		e, err := s.tryEngine(t, kind, readsShown)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := fmt.Sprint(e.mustRun("names")); strings.Contains(got, hidden) || !strings.Contains(got, shown) {
			t.Errorf("%s lists %s, want only %q", kind, got, shown)
		}
		if rows, err := e.tryRun("rows", "table", hidden+"."+secretTable); err == nil {
			t.Errorf("%s reads hidden rows %v", kind, rows)
		}
		if _, err := e.tryRun("append", "table", shown+"."+secretTable, "rows", []record{{"n": 5, "s": "x"}}); err == nil {
			t.Errorf("%s appends with a read token", kind)
		}
		if rows, err := e.tryRun("rows", "table", shown+"."+secretTable); err != nil || len(rows) != 0 {
			t.Errorf("%s reads rows %v, error %v, want no rows", kind, rows, err)
		}
	}
}

// fileSchema returns the groups and columns of a Parquet file, with their names, field IDs, types and annotations.
func fileSchema(t *testing.T, path string) []string {
	t.Helper()
	r := must.Get(pqfile.OpenParquetFile(strings.TrimPrefix(strings.TrimPrefix(path, "file:"), "//"), false))(t)
	defer r.Close() //nolint:errcheck // opened only for reading
	var text strings.Builder
	columns := r.MetaData().Schema
	pqschema.PrintSchema(columns.Root(), &text, 0)
	lines := strings.Split(text.String(), "\n")[1:] // without the root, whose name is the writer's
	for i := range columns.NumColumns() {
		c := columns.Column(i)
		lines = append(lines, fmt.Sprintf("%s: %d bytes, %s", c.Path(), c.TypeLength(), c.ConvertedType()))
	}
	return lines
}

// putJSONRow appends a row of JSON to a table, and returns the paths of the new files.
func (s *server) putJSONRow(t *testing.T, client *flightClient, table string, columns *arrow.Schema, row string) []string {
	t.Helper()
	batch := tabletest.ParseRows(t, columns, "["+row+"]")
	defer batch.Release()
	r := must.Get(array.NewRecordReader(columns, []arrow.RecordBatch{batch}))(t)
	defer r.Release()
	before := s.dataFiles(t, table)
	bucket, name := splitName(table)
	must.Get(client.c.Put(t.Context(), bucket, name, r, tables.PutAppend, nil))(t)
	return slices.DeleteFunc(s.dataFiles(t, table), func(f string) bool { return slices.Contains(before, f) })
}

// dataFiles returns the paths of a table's data files, after a fold.
func (s *server) dataFiles(t *testing.T, table string) (paths []string) {
	t.Helper()
	bucket, name := splitName(table)
	tbl, err := s.openCatalog(t).LoadTable(t.Context(), []string{bucket, name})
	if err != nil { // not created yet
		return nil
	}
	tasks := must.Get(tbl.Scan().PlanFiles(t.Context()))(t)
	for _, task := range tasks {
		paths = append(paths, task.File.FilePath())
	}
	return paths
}

// testColumnTypes checks that the server writes Iceberg's types as Spark and pyiceberg do. It also checks tables with
// partitions, for which the server uses another writer. Spark and pyiceberg copy the server's rows, and the copies must
// be equal. Known differences:
//   - The server writes no columns of the types variant, geometry, geography and unknown.
//   - Spark 4.1 with Iceberg 1.11 has no times of day and no timestamps in nanoseconds, so only pyiceberg tests them.
//   - In tables with partitions, decimals of up to 18 digits are bytes instead of integers, because Iceberg's library for
//     Go, which writes these files, has no setting for it. Spark and pyiceberg read both.
func (s *server) testColumnTypes(t *testing.T, client *flightClient, spark, pyiceberg *engine) {
	field := func(name string, kind arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: kind, Nullable: true}
	}
	decimal := func(precision int32) arrow.DataType { return &arrow.Decimal128Type{Precision: precision, Scale: 2} }
	all := []arrow.Field{
		{Name: "required", Type: arrow.PrimitiveTypes.Int64},
		field("k", arrow.BinaryTypes.String), field("b", arrow.FixedWidthTypes.Boolean),
		field("i", arrow.PrimitiveTypes.Int32), field("l", arrow.PrimitiveTypes.Int64), field("f", arrow.PrimitiveTypes.Float32), field("d", arrow.PrimitiveTypes.Float64),
		field("d2", decimal(2)), field("d9", decimal(9)), field("d10", decimal(10)), field("d18", decimal(18)), field("d19", decimal(19)), field("d38", decimal(38)),
		field("date", arrow.FixedWidthTypes.Date32), field("at", &arrow.TimestampType{Unit: arrow.Microsecond}), field("utc", arrow.FixedWidthTypes.Timestamp_us),
		field("two", &arrow.FixedSizeBinaryType{ByteWidth: 2}), field("bytes", arrow.BinaryTypes.Binary),
		field("list", arrow.ListOf(arrow.PrimitiveTypes.Int32)), field("map", arrow.MapOf(arrow.BinaryTypes.String, decimal(9))),
		field("s", arrow.StructOf(field("i", arrow.PrimitiveTypes.Int32), field("at", arrow.FixedWidthTypes.Timestamp_us))),
	}
	const row = `"required": 1, "k": "a", "b": true, "i": -7, "l": 8, "f": 0.5, "d": -0.25, "d2": "0.12", "d9": "-1234567.89", "d10": "12345678.90", "d18": "1234567890123456.78",
		"d19": "-12345678901234567.89", "d38": "123456789012345678901234567890123456.78", "date": "1969-12-31", "at": "2026-01-02 03:04:05.000006", "utc": "1960-01-02 03:04:05.000006Z",
		"two": "AQI=", "bytes": "AAEC", "list": [1, null, 3], "map": [{"key": "x", "value": "1.23"}], "s": {"i": 5, "at": "2026-01-02 03:04:05Z"}, "u": "f79c3e09-677c-4bbd-a479-3f349cb785e7"`
	extraFields := []arrow.Field{field("time", arrow.FixedWidthTypes.Time64us), field("ns", &arrow.TimestampType{Unit: arrow.Nanosecond}), field("utcns", arrow.FixedWidthTypes.Timestamp_ns)}
	for _, c := range []struct {
		name, row string
		columns   []arrow.Field
	}{
		{"types.all", row, all},
		{"types.more", row + `, "time": "12:34:56.789012", "ns": "2026-01-02 03:04:05.000000007", "utcns": "2026-01-02 03:04:05.000000007Z"`, slices.Concat(all, extraFields)},
	} {
		s.putJSONRow(t, client, c.name, arrow.NewSchema(c.columns, nil), "")
		pyiceberg.mustRun("add", "table", c.name, "name", "u", "type", "uuid") // puts cannot create columns of this type
		columns := arrow.NewSchema(append(c.columns, field("u", arrowext.NewUUIDType())), nil)
		for _, kind := range []string{"plain", "partitioned"} {
			if kind == "partitioned" {
				pyiceberg.mustRun("partition", "table", c.name, "column", "k", "name", "part")
			}
			serverColumns := fileSchema(t, s.putJSONRow(t, client, c.name, columns, "{"+c.row+"}")[0])
			files := map[string]string{"pyiceberg": pyiceberg.mustRun("written", "table", c.name)[0]["path"].(string)}
			if c.name == "types.all" {
				before := s.dataFiles(t, c.name)
				spark.mustRun("run", "statement", "INSERT INTO partd.types.all SELECT * FROM partd.types.all")
				files["spark"] = slices.DeleteFunc(s.dataFiles(t, c.name), func(f string) bool { return slices.Contains(before, f) })[0]
			}
			for writer, path := range files {
				engineColumns := fileSchema(t, path)
				for i := range min(len(serverColumns), len(engineColumns)) {
					isKnown := kind == "partitioned" && strings.Contains(strings.ToLower(serverColumns[i]), "decimal")
					if serverColumns[i] != engineColumns[i] && !isKnown {
						t.Errorf("%s, %s: the server writes %q, but %s writes %q", c.name, kind, serverColumns[i], writer, engineColumns[i])
					}
				}
				if len(serverColumns) != len(engineColumns) {
					t.Errorf("%s, %s: the server writes %d columns and groups, but %s writes %d", c.name, kind, len(serverColumns), writer, len(engineColumns))
				}
			}
		}
		for _, read := range []func(string) ([]record, error){client.rows, client.query} {
			rows, err := read(c.name)
			if lines := slices.Compact(rowLines(rows)); err != nil || len(rows) < 2 || len(lines) != 1 {
				t.Errorf("%s: the copies of a row differ: %q, %v", c.name, lines, err)
			}
		}
	}
}
