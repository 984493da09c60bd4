package rest

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
)

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
			"partd.tail-epoch.x": "9223372036854775807", "partd.rules": "no rules", "partd.settings": `{"time": "none"}`, "partd.arrow-schema.0": "AAAA",
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
