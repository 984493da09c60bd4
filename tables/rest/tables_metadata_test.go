package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// setProperty returns a commit that sets a property to a value with the given length.
func setProperty(key string, length int) string {
	return fmt.Sprintf(`{"requirements": [], "updates": [{"action": "set-properties", "updates": {%q: %q}}]}`, key, strings.Repeat("x", length))
}

// TestMetadataSize checks that metadata over the size limit can be neither committed nor registered.
func TestMetadataSize(t *testing.T) {
	c := serveTables(t, "t")
	c.send("POST", "namespaces/ns/tables/t", setProperty("a", 9<<20), 200)
	c.send("POST", "namespaces/ns/tables/t", setProperty("b", 9<<20), 400, "ValidationException", "the limit is 16777216")
	c.send("POST", "namespaces/ns/tables/t", setProperty("b", 1<<20), 200)
	base := c.load("ns", "t")

	b := must.Get(json.Marshal(base.Metadata()))(t)
	c.send("DELETE", "namespaces/ns/tables/t", nil, 204)
	large := base.Location() + "/metadata/large.metadata.json"
	c.write(large, []byte(strings.Replace(string(b), `"xxx`, `"`+strings.Repeat("x", 8<<20), 1)))
	c.send("POST", "namespaces/ns/register", object{"name": "t", "metadata-location": large}, 400, "larger than 16777216 bytes")
	for unknown, refusal := range map[string]string{
		"[" + strings.Repeat("{},", 600_000) + "{}]":                                                 "more than 1048576 values",
		strings.Repeat("[", 200) + `"` + strings.Repeat("x", 1<<20) + `"` + strings.Repeat("]", 200): "nested too deeply",
	} {
		c.write(large, []byte(`{"x":`+unknown+","+string(b[1:])))
		c.send("POST", "namespaces/ns/register", object{"name": "t", "metadata-location": large}, 400, refusal)
		c.send("POST", "namespaces", `{"namespace":["x"],"x":`+unknown+"}", 400, refusal)
	}
	c.send("POST", "namespaces/ns/register", object{"name": "t", "metadata-location": base.MetadataLocation()}, 200)
}

// TestManyDefinitions checks that a commit can add only a limited number of schemas, partition specs and sort
// orders, because each is compared with all others.
func TestManyDefinitions(t *testing.T) {
	c := serveTables(t, "t")
	for action, definition := range map[string]func(i int) object{
		"add-schema": func(i int) object {
			return object{"schema": object{"type": "struct", "schema-id": 0, "fields": []any{object{"id": 1, "name": fmt.Sprint("n", i), "type": "long", "required": false}}}}
		},
		"add-spec": func(i int) object {
			return object{"spec": object{"spec-id": i + 1, "fields": []any{object{"source-id": 1, "field-id": 1000, "name": "p", "transform": fmt.Sprintf("bucket[%d]", i+1)}}}}
		},
		"add-sort-order": func(i int) object {
			return object{"sort-order": object{"order-id": i + 1, "fields": []any{object{"source-id": 1, "transform": fmt.Sprintf("bucket[%d]", i+1), "direction": "asc", "null-order": "nulls-first"}}}}
		},
	} {
		for n, code := range map[int]int{100: 200, 101: 400} {
			var updates []any
			for i := range n {
				u := definition(i)
				u["action"] = action
				updates = append(updates, u)
			}
			c.send("POST", "namespaces/ns/tables/t", object{"requirements": []any{}, "updates": updates}, code)
		}
	}
}

// TestFoldReadsNoMetadata checks that Fold does not read the metadata of a table that has no rows in the tail. A
// server folds all tables when it stops, so reading their metadata would delay its exit.
func TestFoldReadsNoMetadata(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{Memory: 64 << 20, MaxMessage: 1 << 20}, Options{})
	c.send("POST", "namespaces", object{"namespace": []string{"ns"}}, 200)
	c.create("ns", "t")
	c.send("POST", "namespaces/ns/tables/t", setProperty("a", 15<<20), 200)
	changed, _ := c.send("POST", "namespaces/ns/tables/t", setProperty("a", 14<<20), 200)
	c.write(changed["metadata-location"].(string), []byte("damaged"))
	c.create("ns", "u") // evicts the metadata of t from the cache
	must.Get(c.store.Fold(t.Context(), nil))(t)
}

// TestLargeBodiesShareMemory checks that a large body is refused while another one uses the memory. A client that
// sends its body too slowly must lose the memory to other requests.
func TestLargeBodiesShareMemory(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{Memory: 64 << 20, MaxMessage: 1 << 20, IdleTimeout: 3 * time.Second}, Options{})
	c.send("POST", "namespaces", object{"namespace": []string{"ns"}}, 200)
	c.create("ns", "t")
	slow := must.Get(net.Dial("tcp", strings.TrimPrefix(c.url, "http://")))(t)
	defer slow.Close()
	start := time.Now()
	must.Get(fmt.Fprintf(slow, "POST /v1/namespaces/ns/tables/t HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%*s", 15<<20, 512<<10, " "))(t)
	go func() {
		for err := error(nil); err == nil; time.Sleep(50 * time.Millisecond) {
			_, err = slow.Write([]byte(" "))
		}
	}()
	time.Sleep(200 * time.Millisecond) // wait until the slow request holds the memory
	c.send("POST", "namespaces/ns/tables/t", setProperty("a", 15<<20), 503, "SlowDownException", "need much memory")
	c.send("POST", "namespaces/ns/tables/t", setProperty("a", 1<<10), 200)
	for code := 503; code != 200; {
		code = c.statusOf("POST", "namespaces/ns/tables/t", setProperty("a", 15<<20))
		if time.Since(start) > 30*time.Second {
			t.Fatal("the slow body still holds its memory after 30 seconds")
		}
	}
}

// TestLoadsShareMemory checks that loads of large metadata share a quarter of the server's memory, and that loads of
// small metadata do not wait for them.
func TestLoadsShareMemory(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{Memory: 64 << 20, MaxMessage: 1 << 20, IdleTimeout: 6 * time.Second}, Options{})
	c.send("POST", "namespaces", object{"namespace": []string{"ns"}}, 200)
	c.create("ns", "small")
	c.create("ns", "large")
	c.create("ns", "dropped")
	c.send("POST", "namespaces/ns/tables/large", setProperty("a", 15<<20), 200)
	c.send("POST", "namespaces/ns/tables/dropped", setProperty("a", 1<<20), 200)
	dropped := c.load("ns", "dropped").MetadataLocation()
	c.send("DELETE", "namespaces/ns/tables/dropped", nil, 204)
	slow := must.Get(net.Dial("tcp", strings.TrimPrefix(c.url, "http://")))(t)
	defer slow.Close()
	must.Do(t, slow.(*net.TCPConn).SetReadBuffer(4096))
	must.Get(fmt.Fprint(slow, "GET /v1/namespaces/ns/tables/large HTTP/1.1\r\nHost: localhost\r\n\r\n"))(t)
	must.Get(slow.Read(make([]byte, 1)))(t) // the response has begun
	c.send("GET", "namespaces/ns/tables/large", nil, 503, "SlowDownException", "need much memory")
	c.send("GET", "namespaces/ns/tables/small", nil, 200)
	var requests sync.WaitGroup
	for path, body := range map[string]any{
		"namespaces/ns/tables/small": setProperty("a", 1<<20),
		"namespaces/ns/tables":       `{"name": "new", "schema": ` + schemaN + `, "properties": {"a": "` + strings.Repeat("x", 1<<20) + `"}}`,
		"namespaces/ns/register":     object{"name": "dropped", "metadata-location": dropped},
		"transactions/commit": object{"table-changes": []any{object{
			"identifier": object{"namespace": []string{"ns"}, "name": "large"}, "requirements": []any{}, "updates": []any{},
		}}},
	} {
		requests.Go(func() {
			if code := c.statusOf("POST", path, body); code != 503 {
				t.Errorf("POST %s: got status %d, want 503", path, code)
			}
		})
	}
	requests.Wait()
	slow.Close()
	for code := 503; code != 200; {
		code = c.statusOf("GET", "namespaces/ns/tables/large", nil)
	}
}

// createManySnapshots creates a table with many snapshots, which have metadata but no files, and empty tables.
func createManySnapshots(tb testing.TB, dir string, snapshots, emptyTables int) {
	tb.Helper()
	ctx := context.Background()
	cat := must.Get(icecat.Open(ctx, dir, icecat.Options{FS: vfs.OS{}}))(tb)
	defer cat.Close()
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64})
	meta := must.Get(table.NewMetadata(sc, iceberg.UnpartitionedSpec, table.UnsortedSortOrder, cat.NewLocation(), nil))(tb)
	var changes []*icecat.Change
	for i := range emptyTables {
		empty := must.Get(table.NewMetadata(sc, iceberg.UnpartitionedSpec, table.UnsortedSortOrder, cat.NewLocation(), nil))(tb)
		changes = append(changes, &icecat.Change{Namespace: "ns", Name: fmt.Sprintf("t%05d", i), New: empty, IOs: []*icecat.FileIO{cat.NewIO()}})
	}
	text, err := json.Marshal(meta)
	must.Do(tb, err)
	var doc object
	must.Do(tb, json.Unmarshal(text, &doc))
	var snaps, log []any
	for i := range snapshots {
		at := meta.LastUpdatedMillis() - int64(snapshots-i)
		log = append(log, object{"snapshot-id": i + 1, "timestamp-ms": at})
		s := object{
			"snapshot-id": i + 1, "sequence-number": i + 1, "timestamp-ms": at, "schema-id": 0, "manifest-list": fmt.Sprintf("%s/metadata/snap-%d-0-3f1c3c1e-6f5e-4e43-8a73-a3a1b0a4c2d9.avro", meta.Location(), i+1),
			"summary": object{"operation": "append", "added-data-files": "1", "added-records": "1000", "added-files-size": "123456", "total-data-files": "7", "total-records": "7", "total-files-size": "7"},
		}
		if i > 0 {
			s["parent-snapshot-id"] = i
		}
		snaps = append(snaps, s)
	}
	doc["snapshots"], doc["snapshot-log"], doc["current-snapshot-id"], doc["last-sequence-number"] = snaps, log, snapshots, snapshots
	doc["refs"] = object{"main": object{"snapshot-id": snapshots, "type": "branch"}}
	if text, err = json.Marshal(doc); err == nil {
		meta, err = table.ParseMetadataBytes(text)
	}
	must.Do(tb, err)
	changes = append(changes, &icecat.Change{Namespace: "ns", Name: "many", New: meta, IOs: []*icecat.FileIO{cat.NewIO()}, Info: &icecat.Info{Updated: time.Now()}})
	must.Do(tb, cat.Commit(ctx, nil, changes...))
}

// get sends a request, and discards the response.
func (c *catalog) get(path string) {
	c.Helper()
	a := must.Get(http.Get(c.url + "/v1/" + path))(c)
	defer a.Body.Close()
	if n, err := io.Copy(io.Discard, a.Body); err != nil || a.StatusCode != http.StatusOK || n < 500 {
		c.Fatalf("GET %s: got status %s and %d bytes, want 200 and at least 500 bytes; error: %v", path, a.Status, n, err)
	}
}

// TestSpeed loads one of PARTD_TABLES tables, and a table with 10,000 snapshots, and logs the times. The goal is 5 ms
// on an idle machine. The test fails only if the fastest of many loads takes more than five times that, because other
// tests may run at the same time. When snapshots=refs still copied all snapshots, a load took 100 ms.
func TestSpeed(t *testing.T) {
	if testing.Short() {
		t.Skip("creates many tables")
	}
	dir := t.TempDir()
	createManySnapshots(t, dir, 10_000, tabletest.Rounds(t, "PARTD_TABLES", 1000))
	c := serve(t, dir, flightd.Options{}, Options{})
	for _, path := range []string{"many?snapshots=refs", "t00500"} {
		var durations []time.Duration
		for range 20 {
			start := time.Now()
			c.get("namespaces/ns/tables/" + path)
			durations = append(durations, time.Since(start))
		}
		slices.Sort(durations)
		t.Log(path, durations[0], durations[10], durations[19])
		if durations[0] > 25*time.Millisecond {
			t.Errorf("the fastest GET %s took %v, want at most 25ms", path, durations[0])
		}
	}
}

// TestImpossibleNames checks that requests for tables with impossible names return "no such table". Java's clients rely
// on this: before they read the snapshots of d.t or write to its branch, they request a table in namespace d␟t.
func TestImpossibleNames(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	c.put("d", "t", nil, 1)
	long := strings.Repeat("x", 256)
	commit := object{"requirements": []any{}, "updates": []any{}}
	for _, path := range []string{"none/tables/t", "d%1Ft/tables/snapshots", "%1F/tables/t", long + "/tables/t", "d%00/tables/t", "d%FF/tables/t", "d/tables/" + long, "d/tables/t%00", "d/tables/t%FF"} {
		c.send("GET", "namespaces/"+path, nil, 404, "NoSuchTableException")
		c.send("HEAD", "namespaces/"+path, nil, 404)
		c.send("DELETE", "namespaces/"+path, nil, 404, "NoSuchTableException")
		c.send("POST", "namespaces/"+path+"/metrics", object{}, 404, "NoSuchTableException")
		if !strings.HasPrefix(path, "none") { // a commit may create a table in a namespace
			c.send("POST", "namespaces/"+path, commit, 404, "NoSuchTableException")
		}
	}
	for _, source := range []identifier{{[]string{"d", "t"}, "snapshots"}, {[]string{"none"}, "t"}, {[]string{"d"}, long}} {
		c.send("POST", "tables/rename", object{"source": source, "destination": identifier{[]string{"d"}, "x"}}, 404, "NoSuchTableException")
	}
	c.send("POST", "tables/rename", object{"source": identifier{[]string{"d"}, "t"}, "destination": identifier{[]string{"d", "e"}, "x"}}, 404, "NoSuchNamespaceException")
	for _, name := range []string{long, "\x00"} {
		c.send("POST", "namespaces/d/tables", object{"name": name, "schema": json.RawMessage(schemaN)}, 400, "ValidationException")
		c.send("POST", "tables/rename", object{"source": identifier{[]string{"d"}, "t"}, "destination": identifier{[]string{"d"}, name}}, 400, "ValidationException")
	}
}

// TestColumnIDsFromZero checks that a new table's partitions and order are right if Spark numbers columns from 0.
func TestColumnIDsFromZero(t *testing.T) {
	c := serveTables(t)
	c.send("POST", "namespaces/ns/tables", `{"name": "t", "schema": {"type": "struct", "schema-id": 0, "fields": [
		{"id": 0, "name": "k", "type": "string", "required": false}, {"id": 1, "name": "n", "type": "long", "required": false}]},
		"partition-spec": {"spec-id": 0, "fields": [{"source-id": 0, "field-id": 1000, "name": "k", "transform": "identity"}]},
		"write-order": {"order-id": 1, "fields": [{"source-id": 0, "transform": "identity", "direction": "asc", "null-order": "nulls-first"}]}}`, 200)
	meta := c.load("ns", "t").Metadata()
	spec, order := meta.PartitionSpec(), meta.SortOrder()
	id := meta.CurrentSchema().Field(0).ID
	if got := spec.Field(0).SourceID(); id <= 0 || got != id || order.Field(0).SourceID() != id {
		t.Errorf("column %d has the partition source %d and the sort order %v, want both to refer to the column", id, got, order)
	}
}

// TestStagedDirectory checks that DuckDB can create a table: its commit adds a sort order before it sets the
// schema. DuckDB writes files into the table's directories without creating the directories, so staging must
// create them. Expire must remove the directories of staged tables that were never created.
func TestStagedDirectory(t *testing.T) {
	c := serveTables(t)
	stage := func() (location, dir string) {
		t.Helper()
		a, _ := c.send("POST", "namespaces/ns/tables", `{"name": "t", "stage-create": true, "schema": `+schemaN+`}`, 200)
		location = a["metadata"].(map[string]any)["location"].(string)
		dir = strings.TrimPrefix(location, "file://")
		for _, name := range []string{"data", "metadata"} {
			must.Get(os.Stat(filepath.Join(dir, name)))(t)
		}
		return location, dir
	}
	_, unused := stage()
	location, used := stage()
	root, id, _ := strings.Cut(location, "/data/")
	commit := c.createCommit(uuid.MustParse(id), root+"/data/")
	updates := commit["updates"].([]any)
	reordered := slices.Delete(slices.Clone(updates), 3, 4)
	commit["updates"] = append(reordered, updates[3]) // set-current-schema comes last
	c.send("POST", "namespaces/ns/tables/t", commit, 200)
	for range 2 {
		must.Get(c.store.Expire(t.Context(), &tables.MaintainOptions{Grace: -1}))(t)
	}
	if _, err := os.Stat(unused); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the directory of a staged table that was never created still exists:", err)
	}
	must.Get(os.Stat(filepath.Join(used, "metadata")))(t)
}

// TestReregisterTable checks that a table whose rows were put through the server can be registered again after a
// drop, and keeps its settings. Metadata that an engine forged cannot be registered.
func TestReregisterTable(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	c.putBatch("ns", "t", &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}}, timedBatch(1, 2))
	must.Do(t, c.store.Bucket("ns").Table("t").EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{{Name: "small", Kind: "range", Column: "n", Max: "9"}}}))
	for i := range 3 {
		c.send("GET", "namespaces/ns/tables/t", nil, 200) // folds the tail
		location := c.load("ns", "t").MetadataLocation()
		c.send("DELETE", "namespaces/ns/tables/t", nil, 204)
		text := must.Get(os.ReadFile(fileAt(location)))(t)
		for key, value := range map[string]string{
			"partd.tail-epoch.x": "9223372036854775807", "partd.rules": "no rules", "partd.settings": `{"time": "none"}`, "partd.arrow-schema.0": "AAAA", "partd.replacements": "[",
		} {
			var meta map[string]any
			must.Do(t, json.Unmarshal(text, &meta))
			meta["properties"].(map[string]any)[key] = value
			forged := strings.Replace(location, "/metadata/", "/metadata/forged", 1)
			must.Do(t, os.WriteFile(fileAt(forged), []byte(jsonOf(meta)), 0o600))
			c.send("POST", "namespaces/ns/register", object{"name": "t", "metadata-location": forged}, 400, "ValidationException")
		}
		c.send("POST", "namespaces/ns/register", object{"name": "t", "metadata-location": location}, 200)
		c.putBatch("ns", "t", nil, timedBatch(int64(3+i)))
	}
	c.wantRows("ns", "t", 1, 2, 3, 4, 5)
	if s, err := c.store.Bucket("ns").Table("t").Settings(t.Context()); err != nil || s.Time != "ts" {
		t.Errorf("settings after registering again: %+v, error %v; want the time column ts", s, err)
	}
	if r, err := c.store.Bucket("ns").Table("t").Rules(t.Context()); err != nil || len(r) != 1 {
		t.Errorf("rules after registering again: %v, error %v; want one rule", r, err)
	}
}

// TestErrorsHideDirectory checks that errors do not reveal the tables' directory.
func TestErrorsHideDirectory(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	c.put("ns", "t", nil, 1)
	c.send("GET", "namespaces/ns/tables/t", nil, 200)
	base := c.load("ns", "t")
	commit := c.appendCommit(base, 2)
	snapshot := commit["updates"].([]any)[0].(object)["snapshot"].(*table.Snapshot)
	manifestList := snapshot.ManifestList
	c.write(manifestList, []byte("no Avro"))
	missing := c.appendCommit(base, 3)
	missing["updates"].([]any)[0].(object)["snapshot"].(*table.Snapshot).ManifestList = base.Location() + "/metadata/none.avro"
	directoryPath := base.Location() + "/metadata/directory.avro"
	must.Do(t, os.Mkdir(fileAt(directoryPath), 0o700))
	directory := c.appendCommit(base, 4)
	directory["updates"].([]any)[0].(object)["snapshot"].(*table.Snapshot).ManifestList = directoryPath
	relocation := object{"requirements": []any{}, "updates": []any{object{"action": "set-location", "location": base.Location() + "/x"}}}
	for _, body := range []object{commit, missing, directory, relocation} {
		answer, _ := c.send("POST", "namespaces/ns/tables/t", body, 400)
		if text := jsonOf(answer); strings.Contains(text, c.dir) {
			t.Errorf("the error of a commit reveals the directory: %s", text)
		}
	}
	for _, location := range []string{"x", base.Location() + "/metadata/none.json", strings.Replace(directoryPath, ".avro", ".json", 1)} {
		answer, _ := c.send("POST", "namespaces/ns/register", object{"name": "r", "metadata-location": location}, 400)
		if text := jsonOf(answer); strings.Contains(text, c.dir) {
			t.Errorf("the error of a registration reveals the directory: %s", text)
		}
	}
}
