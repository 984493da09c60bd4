package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
)

// TestFoldOnLoad checks that loading a table first folds its tail (moves rows that are not yet in data files into
// files), unless the request or the table's properties disable that.
func TestFoldOnLoad(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	checkTotal := func(path, want string) { t.Helper(); c.wantTotal("ns/tables/"+path, want) }
	c.put("ns", "t", nil, 1)
	c.put("ns", "t", nil, 2)
	checkTotal("t?fold=false", "none")
	c.send("HEAD", "namespaces/ns/tables/t", nil, 204)
	checkTotal("t?fold=false", "none")
	checkTotal("t", "2")
	c.put("ns", "t", nil, 3)
	checkTotal("t?fold=false", "2")
	checkTotal("t?snapshots=refs", "3")
	c.send("POST", "namespaces/ns/tables/t", `{"requirements": [], "updates": [{"action": "set-properties", "updates": {"partd.fold-on-load": "false"}}]}`, 200)
	c.put("ns", "t", nil, 4)
	checkTotal("t", "3")
	c.wantRows("ns", "t", 1, 2, 3, 4)

	rareFolds := serve(t, t.TempDir(), flightd.Options{}, Options{FoldEvery: time.Hour})
	c = rareFolds
	c.put("ns", "t", nil, 1)
	checkTotal("t", "1")
	c.put("ns", "t", nil, 2)
	checkTotal("t", "1")
}

// TestPages checks that lists return all names, or pages of the requested size.
func TestPages(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	for i := range 5 {
		c.send("POST", "namespaces", object{"namespace": []string{fmt.Sprint("n", i)}}, 200)
		c.create("n0", fmt.Sprint("t", i))
	}
	for path, key := range map[string]string{"namespaces": "namespaces", "namespaces/n0/tables": "identifiers"} {
		if a, _ := c.send("GET", path, nil, 200); len(a[key].([]any)) != 5 || a["next-page-token"] != nil {
			t.Errorf("GET %s: got %v, want all 5 names and no next page", path, a)
		}
		var all []string
		token, pages := "", 0
		for {
			a, _ := c.send("GET", path+"?pageSize=2&pageToken="+token, nil, 200)
			for _, e := range a[key].([]any) {
				all = append(all, fmt.Sprint(e))
			}
			if pages++; a["next-page-token"] == nil {
				break
			}
			token = a["next-page-token"].(string)
		}
		if pages != 3 || len(all) != 5 || !strings.Contains(all[4], "4") {
			t.Errorf("GET %s: got %d pages with %v, want 3 pages with 5 names", path, pages, all)
		}
		c.send("GET", path+"?pageSize=0", nil, 400)
		c.send("GET", path+"?pageSize=x", nil, 400)
		c.send("GET", path+"?pageToken=!", nil, 400)
	}
	c.send("GET", "namespaces?parent=n0", nil, 200, `"namespaces":[]`)
	c.send("GET", "namespaces?parent=none", nil, 404, "NoSuchNamespaceException")
}

// TestNamespaces checks that the catalog shows a bucket as a namespace if its name is valid for one.
func TestNamespaces(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	c.put("", "t", nil, 1)
	c.put("default", "t", nil, 2)
	c.put("with space/ü%", "t/ü", nil, 3)
	c.put("hidden\x1flevel", "t", nil, 4)
	c.send("GET", "namespaces", nil, 200, `"namespaces":[["default"],["default_"],["with space/ü%"]]`)
	c.send("GET", "namespaces/with%20space%2F%C3%BC%25/tables/t%2F%C3%BC", nil, 200)
	c.send("GET", "namespaces/default_/tables/t", nil, 200)
	for _, ns := range []any{[]string{}, []string{""}, []string{"a", "b"}, []string{"a\x1fb"}, []string{"a\x00"}, []string{strings.Repeat("x", 256)}} {
		c.send("POST", "namespaces", object{"namespace": ns}, 400, "BadRequestException")
	}
	c.send("GET", "namespaces/a%1Fb", nil, 404, "NoSuchNamespaceException")
	c.send("GET", "namespaces?parent=a%1Fb", nil, 404, "NoSuchNamespaceException")
	c.send("POST", "namespaces/a%1Fb/tables", `{"name": "t", "schema": `+schemaN+`}`, 404, "NoSuchNamespaceException")
	c.send("POST", "namespaces", object{"namespace": []string{"a"}, "properties": object{"k": "v"}}, 200)
	c.send("POST", "namespaces", object{"namespace": []string{"a"}}, 409, "AlreadyExistsException")
	c.send("HEAD", "namespaces/a", nil, 204)
	c.send("HEAD", "namespaces/b", nil, 404)
	c.send("POST", "namespaces/a/properties", `{"removals": ["k", "x"], "updates": {"m": "n"}}`, 200, `"removed":["k"]`, `"missing":["x"]`, `"updated":["m"]`)
	c.send("POST", "namespaces/a/properties", `{"removals": ["m"], "updates": {"m": "n"}}`, 422)
	c.send("POST", "namespaces/b/properties", `{}`, 404)
	must.Do(t, c.store.Bucket("a").ChangeMetadata(t.Context(), tables.MetadataChange{Set: tables.Metadata{"number": 1}}))
	c.send("GET", "namespaces/a", nil, 200, `"properties":{"m":"n","number":"1"}`)
	c.create("a", "t")
	c.send("POST", "namespaces/a/tables", `{"name": "", "schema": `+schemaN+`}`, 400)
	c.send("POST", "namespaces/a/tables", `{"name": "t", "schema": `+schemaN+`}`, 409, "AlreadyExistsException")
	c.send("POST", "namespaces/b/tables", `{"name": "t", "schema": `+schemaN+`}`, 404, "NoSuchNamespaceException")
	c.send("POST", "namespaces/a/tables", `{"name": "u", "location": "file:///tmp/x", "schema": `+schemaN+`}`, 400)
	c.send("POST", "namespaces/a/tables", `{"name": "u"}`, 400)
	c.send("POST", "namespaces/a/tables", `{"name": "u", "schema": {"type": "struct", "fields": [{"id": 1, "name": "n", "type": "nonsense", "required": false}]}}`, 400)
	c.send("DELETE", "namespaces/a", nil, 409, "NamespaceNotEmptyException")
	c.send("DELETE", "namespaces/a/tables/t?purgeRequested=true", nil, 204)
	c.send("DELETE", "namespaces/a/tables/t", nil, 404, "NoSuchTableException")
	c.send("DELETE", "namespaces/a", nil, 204)
	c.send("DELETE", "namespaces/a", nil, 404, "NoSuchNamespaceException")
	c.send("GET", "namespaces/a/tables/t", nil, 404, "NoSuchTableException")
}

// TestCommit checks that a commit succeeds only if its requirements are met, and that a transaction commits either all
// of its changes or none.
func TestCommit(t *testing.T) {
	c := serveTables(t, "t", "u")
	base := c.load("ns", "t")
	first, second := c.appendCommit(base, 1), c.appendCommit(base, 2)
	c.send("POST", "namespaces/ns/tables/t", first, 200, `"metadata-location"`)
	c.send("POST", "namespaces/ns/tables/t", second, 409, "CommitFailedException")
	c.wantRows("ns", "t", 1)
	change := func(name string, commit object) object {
		return object{"identifier": object{"namespace": []string{"ns"}, "name": name}, "requirements": commit["requirements"], "updates": commit["updates"]}
	}
	u := c.appendCommit(c.load("ns", "u"), 3)
	c.send("POST", "transactions/commit", object{"table-changes": []any{change("u", u), change("t", second)}}, 409, "CommitFailedException")
	c.wantRows("ns", "u")
	c.send("POST", "transactions/commit", object{"table-changes": []any{change("u", u), change("none", second)}}, 404, "NoSuchTableException")
	c.send("POST", "transactions/commit", object{"table-changes": []any{change("u", u), change("u", u)}}, 400)
	c.send("POST", "transactions/commit", object{"table-changes": []any{}}, 400)
	c.send("POST", "transactions/commit", object{"table-changes": []any{change("u", u), change("t", c.appendCommit(c.load("ns", "t"), 4))}}, 204)
	c.wantRows("ns", "u", 3)
	c.wantRows("ns", "t", 1, 4)
	c.send("POST", "namespaces/ns/tables/none", first, 404, "NoSuchTableException")
	unchanged := c.load("ns", "t").MetadataLocation()
	c.send("POST", "namespaces/ns/tables/t", `{"requirements": [], "updates": []}`, 200, unchanged)
	c.send("POST", "namespaces/ns/tables/t", `{"requirements": [{"type": "assert-create"}], "updates": []}`, 409)
	for _, bad := range []string{
		`{"requirements": [{"type": "nonsense"}], "updates": []}`, `{"requirements": [], "updates": [{"action": "nonsense"}]}`,
		`{"requirements": [], "updates": [{"action": "set-location", "location": "file:///tmp"}]}`, `[`, `{"updates": 1}`, `null`, `{}`, `{"requirements": []}`, `{"updates": []}`,
		`{"requirements": [], "updates": [{"action": "set-current-schema", "schema-id": 77}]}`,
		`{"requirements": [], "updates": [` + strings.Repeat(`{"action": "set-properties", "updates": {}},`, maxUpdates) + `{"action": "set-properties", "updates": {}}]}`,
	} {
		c.send("POST", "namespaces/ns/tables/t", bad, 400)
	}
	c.send("POST", "namespaces/ns/tables/t", `"`+strings.Repeat("x", maxBody)+`"`, 413)
	c.send("POST", "namespaces/ns/tables/t/metrics", `{"report-type": "scan-report", "snapshot-id": 1, "metrics": {"a": 1}}`, 204)
}

// TestReportsAreLogged checks that the server logs an engine's reports, but at most one per second.
func TestReportsAreLogged(t *testing.T) {
	var log bytes.Buffer
	c := serve(t, t.TempDir(), flightd.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, Options{})
	c.send("POST", "namespaces", object{"namespace": []string{"ns"}}, 200)
	c.create("ns", "t")
	begin := time.Now().Unix()
	for range 20 {
		c.send("POST", "namespaces/ns/tables/t/metrics", object{"report-type": "scan-report", "snapshot-id": 1, "metrics": object{"a": 1}}, 204)
	}
	seconds := int(time.Now().Unix() - begin + 1)
	if n := strings.Count(log.String(), "an engine's report"); n == 0 || n > seconds {
		t.Errorf("in %d seconds, the server logged %d reports, want 1 to %d:\n%s", seconds, n, seconds, log.String())
	}
}

// TestForeignCommitKeepsTail checks that another program's commit neither loses nor duplicates rows in the tail,
// however it changes the columns.
func TestForeignCommitKeepsTail(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	c.put("ns", "t", nil, 1)
	must.Get(c.store.Fold(t.Context(), nil))(t)
	base := c.load("ns", "t")
	c.put("ns", "t", nil, 2)
	c.send("POST", "namespaces/ns/tables/t", c.appendCommit(base, 3), 200)
	c.wantRows("ns", "t", 1, 3, 2)
	c.send("POST", "namespaces/ns/tables/t", object{"requirements": []any{}, "updates": addColumn("s")}, 200)
	c.wantTotal("ns/tables/t?fold=false", "3") // rows with the old columns are still in the tail
	c.wantRows("ns", "t", 1, 3, 2)
	// A commit with new columns and new rows fails if the tail has newer rows. The client must retry.
	base = c.load("ns", "t")
	appendRows := c.appendCommit(base, 5)
	widenAndAppend := object{"requirements": appendRows["requirements"], "updates": append(addColumn("z"), appendRows["updates"].([]any)...)}
	c.put("ns", "t", nil, 4)
	c.send("POST", "namespaces/ns/tables/t", widenAndAppend, 409, "CommitFailedException")
	c.wantRows("ns", "t", 1, 3, 2, 4)

	// A commit of a table's first snapshot, with new columns, fails if the tail has rows.
	c.send("POST", "namespaces", object{"namespace": []string{"new"}}, 200)
	c.create("new", "t")
	base = c.load("new", "t")
	appendRows = c.appendCommit(base, 6)
	c.put("new", "t", nil, 7)
	c.send("POST", "namespaces/new/tables/t", object{"requirements": appendRows["requirements"], "updates": append(addColumn("z"), appendRows["updates"].([]any)...)}, 409)
	c.wantRows("new", "t", 7)

	// A commit that replaces all rows also replaces the rows in the tail.
	c.send("GET", "namespaces/new/tables/t", nil, 200)
	base = c.load("new", "t")
	var updates []any
	for _, u := range c.appendCommit(base, 8)["updates"].([]any) {
		if s, ok := u.(object)["snapshot"].(*table.Snapshot); ok {
			s.ParentSnapshotID = nil
		}
		updates = append(updates, u)
	}
	c.put("new", "t", nil, 9)
	c.send("POST", "namespaces/new/tables/t", object{"requirements": []any{}, "updates": append(addColumn("z"), updates...)}, 200)
	c.wantRows("new", "t", 7, 8) // the forged snapshot contains the manifest with row 7
}

// TestRename checks that renaming a table keeps its rows in the tail.
func TestRename(t *testing.T) {
	dir := t.TempDir()
	c := serve(t, dir, flightd.Options{}, Options{})
	c.put("a", "t", &tables.PutOptions{Metadata: tables.Metadata{"k": "v"}}, 1)
	c.put("a", "t", nil, 2)
	c.put("a", "existing", nil, 9)
	rename := func(sourceNS, source, destNS, dest string, code int) {
		t.Helper()
		c.send("POST", "tables/rename", object{"source": identifier{[]string{sourceNS}, source}, "destination": identifier{[]string{destNS}, dest}}, code)
	}
	rename("a", "t", "b", "t", 404)
	c.send("POST", "namespaces", object{"namespace": []string{"b"}}, 200)
	rename("a", "t", "a", "existing", 409)
	rename("a", "none", "b", "x", 404)
	rename("none", "none", "b", "x", 404)
	rename("a", "t", "b", "u", 204)
	c.wantRows("b", "u", 1, 2)
	c.send("GET", "namespaces/a/tables/t", nil, 404)
	c.put("b", "u", nil, 3)
	c.put("a", "t", nil, 4)
	c.wantRows("b", "u", 1, 2, 3)
	c.wantTotal("b/tables/u", "3")
	for info, err := range c.store.Bucket("b").Tables(t.Context(), &tables.Filter{Metadata: tables.Metadata{"k": "v"}}) {
		if err != nil || info.Name != "u" || info.Rows != 3 {
			t.Errorf("listing by metadata: got %+v, error %v, want table u with 3 rows", info, err)
		}
		c = nil
	}
	if c != nil {
		t.Error("listing by metadata yielded no table, want u")
	}
}

// TestRules checks that the rules of a table apply to rows that engines commit.
func TestRules(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	c.put("ns", "t", nil, 1)
	c.putBatch("ns", "ordered", &tables.PutOptions{Settings: &tables.Settings{Time: "ts", Keys: []string{"n"}, OnDuplicate: tables.RefuseDuplicate}}, timedBatch(1))
	must.Do(t, c.store.Bucket("ns").Table("t").EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{
		{Name: "few", Kind: "range", Column: "n", Max: "10"}, {Name: "once", Kind: "unique", Columns: []string{"n"}, InTable: true},
	}}))
	commit := func(name string, code int, text string, ns ...int64) {
		t.Helper()
		c.send("GET", "namespaces/ns/tables/"+name, nil, 200)
		c.send("POST", "namespaces/ns/tables/"+name, c.appendCommit(c.load("ns", name), ns...), code, text)
	}
	commit("t", 400, "few", 5, 11)
	commit("t", 400, "once", 5, 5)
	commit("t", 400, "once", 5, 1)
	commit("t", 200, "", 5, 6)
	c.wantRows("ns", "t", 1, 5, 6)
	ordered := func(code int, text string, ns ...int64) {
		t.Helper()
		c.send("POST", "namespaces/ns/tables/ordered", c.appendCommitBatch(c.load("ns", "ordered"), timedBatch(ns...)), code, text)
	}
	ordered(400, "duplicate", 1, 2)
	ordered(400, "duplicate", 2, 2)
	ordered(200, "", 2, 3)
	c.wantRows("ns", "ordered", 1, 2, 3)
}

// TestRepeatedCommit checks that a commit without a key is recognized by its snapshot.
func TestRepeatedCommit(t *testing.T) {
	c := serveTables(t, "t", "u")
	first := c.appendCommit(c.load("ns", "t"), 1)
	for range 2 {
		c.send("POST", "namespaces/ns/tables/t", first, 200)
	}
	c.send("POST", "namespaces/ns/tables/t", c.appendCommit(c.load("ns", "t"), 2), 200)
	if again, _ := c.send("POST", "namespaces/ns/tables/t", first, 200); totalRecords(again) != "2" {
		t.Errorf("the answer has %s rows, want 2, of the current state", totalRecords(again))
	}
	c.send("POST", "transactions/commit", object{"table-changes": []any{changeOf("t", first), changeOf("u", c.appendCommit(c.load("ns", "u"), 3))}}, 204)
	c.wantRows("ns", "t", 1, 2)
	c.wantRows("ns", "u", 3)
	other := c.appendCommit(c.load("ns", "t"), 4)
	text := must.Get(json.Marshal(other))(t)
	var changed map[string]any
	must.Do(t, json.Unmarshal(text, &changed))
	id := c.load("ns", "t").CurrentSnapshot().SnapshotID
	changed["updates"].([]any)[0].(map[string]any)["snapshot"].(map[string]any)["snapshot-id"] = id
	changed["updates"].([]any)[1].(map[string]any)["snapshot-id"] = id
	c.send("POST", "namespaces/ns/tables/t", changed, 409) // the same ID with another manifest list
	c.wantRows("ns", "t", 1, 2)
	var all sync.WaitGroup
	body := c.appendCommit(c.load("ns", "t"), 5)
	for range 4 {
		all.Go(func() {
			if a, _ := c.send("POST", "namespaces/ns/tables/t", body, 200); totalRecords(a) != "3" {
				t.Errorf("an answer has %s rows, want 3", totalRecords(a))
			}
		})
	}
	all.Wait()
	c.wantRows("ns", "t", 1, 2, 5)
}

// TestPartlyRepeatedCommit checks that a commit whose snapshot is in the table fails, unless all its updates are
// applied.
func TestPartlyRepeatedCommit(t *testing.T) {
	const path = "namespaces/ns/tables/t"
	send := func(c *catalog, text string, code int) { c.Helper(); c.send("POST", path, json.RawMessage(text), code) }
	with := func(text, update string) string { return strings.TrimSuffix(text, "]}") + "," + update + "]}" }
	toBranch := func(text string) string { return strings.Replace(text, `"ref-name":"main"`, `"ref-name":"b"`, 1) }
	prepare := func(t *testing.T) (*catalog, string) {
		c := serveTables(t, "t")
		return c, string(must.Get(json.Marshal(c.appendCommit(c.load("ns", "t"), 1)))(t))
	}
	t.Run("branch", func(t *testing.T) {
		c, text := prepare(t)
		send(c, strings.Replace(toBranch(text), `"ref":"main"`, `"ref":"b"`, 1), 200)
		send(c, text, 409)
		c.wantRows("ns", "t")
	})
	t.Run("property", func(t *testing.T) {
		c, text := prepare(t)
		send(c, with(text, `{"action":"set-properties","updates":{"k":"v"}}`), 200)
		for range 2 {
			send(c, with(text, `{"action":"set-properties","updates":{"k":"v"}}`), 200)
			send(c, with(text, `{"action":"set-properties","updates":{"k":"other"}}`), 409)
			c.send("POST", path, c.appendCommit(c.load("ns", "t"), 2), 200)
		}
		send(c, with(text, `{"action":"remove-properties","removals":["k"]}`), 409)
	})
	t.Run("rollback", func(t *testing.T) {
		c, text := prepare(t)
		send(c, text, 200)
		id := strconv.FormatInt(c.load("ns", "t").CurrentSnapshot().SnapshotID, 10)
		c.send("POST", path, c.appendCommit(c.load("ns", "t"), 2), 200)
		rollback := `{"action":"set-snapshot-ref","ref-name":"main","type":"branch","snapshot-id":` + id + `}`
		send(c, `{"requirements":[],"updates":[`+rollback+`]}`, 200)
		c.wantRows("ns", "t", 1)
		later := must.Get(json.Marshal(c.appendCommit(c.load("ns", "t"), 3)))(t)
		send(c, string(later), 200)
		send(c, with(string(later), rollback), 409)
		c.wantRows("ns", "t", 1, 3)
	})
}

// TestRepeatedCreation checks that a commit without a key that creates a table with rows is recognized.
func TestRepeatedCreation(t *testing.T) {
	c := serveTables(t)
	staged, _ := c.send("POST", "namespaces/ns/tables", object{"name": "t", "schema": json.RawMessage(schemaN), "stage-create": true, "properties": object{"k": "v"}}, 200)
	m := must.Get(table.ParseMetadataBytes(must.Get(json.Marshal(staged["metadata"]))(t)))(t)
	create := c.createCommit(m.TableUUID(), strings.TrimSuffix(m.Location(), m.TableUUID().String()))
	updates := append(create["updates"].([]any), object{"action": "set-properties", "updates": object{"k": "v"}})
	create["updates"] = updates
	c.send("POST", "namespaces/ns/tables/t", create, 200)
	first := c.appendCommit(c.load("ns", "t"), 1)
	drop(c, "t")
	create["updates"] = append(updates, first["updates"].([]any)...)
	for range 2 {
		c.send("POST", "namespaces/ns/tables/t", create, 200)
		c.wantRows("ns", "t", 1)
	}
}
