package rest

import (
	"fmt"
	"strings"
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
	checkTotal := func(path, want string) {
		t.Helper()
		if got := totalRecords(firstOf(c.send("GET", "namespaces/ns/tables/"+path, nil, 200))); got != want {
			t.Errorf("GET %s: the newest snapshot has %s rows, want %s", path, got, want)
		}
	}
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
	c.send("GET", "namespaces/a", nil, 200, `"properties":{"m":"n"}`)
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
	if got := totalRecords(firstOf(c.send("GET", "namespaces/ns/tables/t?fold=false", nil, 200))); got != "3" {
		t.Errorf("the files have %s rows, want 3: rows with the old columns are still in the tail", got)
	}
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
	if got := totalRecords(firstOf(c.send("GET", "namespaces/b/tables/u", nil, 200))); got != "3" {
		t.Errorf("GET of the renamed table: got %s rows, want 3", got)
	}
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
	b := c.store.Bucket("ns")
	must.Do(t, b.Table("t").EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{
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
