package page

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
)

// hostileName is a name that any client may choose.
const hostileName = "a\"b'; DROP\nTABLE <script>$(rm -rf ~)`x` -- %2F/..\\ é"

func TestTree(t *testing.T) {
	s := serve(t, flightd.Options{})
	for i := range 5 {
		s.putQuery("B", fmt.Sprintf("t%d", i), "SELECT 1 AS x")
	}
	s.putQuery("", hostileName, "SELECT 1 AS x")
	s.putQuery(hostileName, "one", "SELECT 1 AS x")
	ctx := t.Context()
	must.Do(t, s.store.Bucket("B").Table("t3").ChangeMetadata(ctx, tables.MetadataChange{Set: tables.Metadata{"Exchange": "Nyse", "n": 7}, Replace: true}))
	must.Get(s.store.Bucket("B").Snapshot(ctx, "before"))(t)
	read := func(query string) (names []string, next *treePosition, snapshots int) {
		_, text := s.wantGet("/api/tree?"+query, 200)
		var out struct {
			Buckets []bucketJSON
			Next    *treePosition
		}
		must.Do(t, json.Unmarshal([]byte(text), &out))
		for _, b := range out.Buckets {
			snapshots += len(b.Snapshots)
			for _, i := range b.Tables {
				names = append(names, b.Name+"/"+i.Name)
			}
		}
		return names, out.Next, snapshots
	}
	all, next, _ := read("")
	if len(all) != 7 || next != nil || !slices.Contains(all, "/"+hostileName) || !slices.Contains(all, hostileName+"/one") {
		t.Errorf("tree: got %q, next %v, want all 7 tables", all, next)
	}
	var pages []string
	snapshots, position := 0, url.Values{"limit": {"2"}}
	for range 10 {
		names, next, n := read(position.Encode())
		pages, snapshots = append(pages, names...), snapshots+n
		if next == nil {
			break
		}
		position.Set("after_bucket", next.Bucket)
		position.Set("after", next.Table)
	}
	if !slices.Equal(pages, all) || snapshots != 1 {
		t.Errorf("tree in pages: got %q, %d snapshots, want %q and one snapshot", pages, snapshots, all)
	}
	for search, want := range map[string]int{"exchange=nys": 1, "T3 n=7": 1, "b t": 7, "nothing": 0, "<script>": 2} {
		if names, _, _ := read("search=" + url.QueryEscape(search)); len(names) != want {
			t.Errorf("search for %s: got %q, want %d tables", search, names, want)
		}
	}
	for _, bad := range []string{"limit=0", "limit=x", "limit=10001"} {
		s.wantGet("/api/tree?"+bad, 400, "limit")
	}
	// A snapshot contains the tables that existed when it was created, including tables deleted since then.
	must.Do(t, s.store.Bucket("B").Delete(ctx, "t0"))
	s.putQuery("B", "t1", "SELECT 1 AS x UNION ALL SELECT 2")
	s.putQuery("B", "t9", "SELECT 1 AS x")
	for query, want := range map[string]string{
		"bucket=B&snapshot=before": "[B/t0 B/t1 B/t2 B/t3 B/t4]", "bucket=B": "[B/t1 B/t2 B/t3 B/t4 B/t9]", "bucket=&search=t": "[/" + hostileName + "]",
		"bucket=B&snapshot=before&search=n=7": "[B/t3]", "bucket=none": "[]",
	} {
		if names, _, _ := read(query); fmt.Sprint(names) != want {
			t.Errorf("tree with %s: got %q, want %s", query, names, want)
		}
	}
	if _, text := s.get("/api/tree?bucket=B&snapshot=before"); strings.Contains(text, `"rows":2`) {
		t.Error("a table in a snapshot has the current row count: ", text)
	}
	for query, status := range map[string]int{"snapshot=before": 400, "bucket=B&snapshot=none": 404, "bucket=%00": 400} {
		s.wantGet("/api/tree?"+query, status)
	}
}

func TestTable(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("B", hostileName, "SELECT 1 AS x, 'a' AS \"a,\"\"b\"")
	s.putQuery("B", hostileName, "SELECT 2 AS x, 'a' AS \"a,\"\"b\" UNION ALL SELECT 3, 'b'")
	must.Get(s.store.Bucket("B").Snapshot(t.Context(), "kept"))(t)
	path := "/api/table?" + url.Values{"bucket": {"B"}, "table": {hostileName}}.Encode()
	_, text := s.wantGet(path, 200, `"rows":2`, `"type":"int32"`, `"name":"a,\"b"`, `"current":true`, `"name":"kept"`, `"settings":{}`)
	if strings.Contains(text, "<script>") {
		t.Error("a browser could interpret the JSON as HTML: ", text)
	}
	var out struct{ Versions []versionJSON }
	if err := json.Unmarshal([]byte(text), &out); err != nil || len(out.Versions) < 2 {
		t.Fatalf("parse %s: %v, want at least two versions", text, err)
	}
	rows := strings.Replace(path, "table?", "rows?", 1)
	for query, want := range map[string]string{"": "[2 3]", "&version=" + fmt.Sprint(out.Versions[0].Version): "[1]", "&snapshot=kept": "[2 3]"} {
		_, text := s.wantGet(rows+query, 200)
		if got := fmt.Sprint(column(t, text, "x")); got != want {
			t.Errorf("rows with %s: got %s, want %s", query, got, want)
		}
	}
	for query, status := range map[string]int{
		"/api/table?table=missing": 404, "/api/table": 400, "/api/table?table=a%00b": 400, path + "&version=99": 404, path + "&version=x": 400,
		path + "&snapshot=none": 404, path + "&snapshot=kept&version=1": 400, "/api/nothing": 404, "/api/put": 405, rows + "&id=short": 400,
		"/api/table?table=" + strings.Repeat("x", 256): 400, "/api/query/unknown/error": 404,
	} {
		s.wantGet(query, status)
	}
}

// TestRows checks that every page of rows, in every order and at every offset, equals that part of the whole result.
func TestRows(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("", "t", `SELECT i AS id, CASE WHEN i % 10 = 0 THEN NULL ELSE i % 7 END AS "k,1", (hash(i) % 1000) / 4.0 AS "-v", 'x' || (i % 3) AS s, [i] AS list
		FROM range(30000) x(i)`)
	read := func(values url.Values) ([]string, string) {
		values.Set("table", "t")
		a, text := s.wantGet("/api/rows?"+values.Encode(), 200)
		return column(t, text, "id"), a.Header.Get("X-Partd-Rows")
	}
	for _, c := range []struct{ sort, filter, order, total string }{
		{"", "", "", "30000"},
		{"-id", "", "ORDER BY id DESC", "30000"},
		{`"k,1"`, "", `ORDER BY "k,1" ASC NULLS LAST, id, "-v", s, list`, "30000"},
		{`"-k,1",s`, "", `ORDER BY "k,1" DESC NULLS FIRST, s ASC NULLS LAST, id DESC`, "30000"},
		{"-list", "", "ORDER BY list DESC", "30000"},
		{"+-v", "", `ORDER BY "-v", id`, "30000"},
		{"--v", `s <> 'x1' -- of these`, `ORDER BY "-v" DESC, id DESC`, "20000"},
		{"s,id", `"k,1" = 3 OR "k,1" = 4`, "ORDER BY s, id", "7715"},
	} {
		where := ""
		if c.filter != "" {
			where = " WHERE (" + c.filter + "\n)"
		}
		_, text := s.wantPost("/api/query", jsonOf(t, map[string]any{"id": "aaaaaaaaaaaaaaaa", "sql": "SELECT id FROM t" + where + " " + c.order}), 200)
		allIDs := column(t, text, "id")
		for _, offset := range []int{0, 1, 4000, 10_001, 14_900, 15_100, len(allIDs) - 11_000, len(allIDs) - 100, len(allIDs) - 1, len(allIDs), len(allIDs) + 7} {
			offset := max(0, offset)
			got, total := read(url.Values{"sort": {c.sort}, "filter": {c.filter}, "offset": {fmt.Sprint(offset)}, "limit": {"100"}})
			want := allIDs[min(len(allIDs), offset):min(len(allIDs), offset+100)]
			if !slices.Equal(got, want) || total != c.total {
				t.Errorf("%+v at offset %d: got %d rows of %s, %.80v; want %.80v", c, offset, len(got), total, got, want)
			}
		}
	}
	for query, words := range map[string]string{
		"filter=id+%3D+1%0Aand+nope": `"line":2,"column":5`, "filter=)": `"line":1`, "sort=nope": "no column", "sort=%22": "sort", "offset=-1": "offset", "limit=0": "limit", "limit=10001": "limit",
	} {
		s.wantGet("/api/rows?table=t&"+query, 400, words)
	}
}

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	return string(must.Get(json.Marshal(v))(t))
}

func TestProfile(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("", "t", `SELECT CASE WHEN i % 10 = 0 THEN NULL ELSE i END AS n, TIMESTAMP '2026-01-01' + INTERVAL (i) HOUR AS at, 'S' || (i % 3) AS s,
		CASE WHEN i < 3 THEN 'nan'::DOUBLE WHEN i < 5 THEN 'infinity'::DOUBLE ELSE i END AS f, NULL::INTEGER AS nothing, [i] AS l, i > 5 AS b, 1.5::DECIMAL(5, 2) AS one,
		DATE '2026-01-01' AS "the day" FROM range(1000) x(i)`)
	for name, words := range map[string][]string{
		"n":       {`"rows":1000,"nulls":100`, `"min":"1","max":"999"`, `"from":1,"to":50.9`, `"top":null`},
		"at":      {`"min":"2026-01-01 00:00:00"`, `"from":1767225600000`, `"top":null`},
		"s":       {`"value":"S0","count":334`, `"histogram":null`, `"distinct":3`},
		"f":       {`"nulls":0`, `"from":5`, `"to":999`},
		"nothing": {`"nulls":1000`, `"min":null,"max":null`, `"histogram":[]`},
		"l":       {`"value":"[0]","count":1`},
		"b":       {`"value":"true","count":994`},
		"one":     {`[{"from":1.5,"to":1.5,"count":1000}]`},
		"the day": {`"count":1000}]`},
	} {
		_, text := s.wantGet("/api/profile?table=t&column="+url.QueryEscape(name), 200, words...)
		var out struct{ Histogram []binJSON }
		must.Do(t, json.Unmarshal([]byte(text), &out))
		sum := int64(0)
		for _, b := range out.Histogram {
			sum += b.Count
		}
		if want := map[string]int64{"n": 900, "at": 1000, "f": 995}[name]; want > 0 && (sum != want || len(out.Histogram) != binCount) {
			t.Errorf("profile of %s: got %d values in %d bins, want %d values", name, sum, len(out.Histogram), want)
		}
	}
	s.wantGet("/api/profile?table=t&column=nope", 400, "no column")
	s.wantGet("/api/profile?table=t&column=s&filter="+url.QueryEscape("n < 12 AND s <> 'S1'"), 200, `"rows":7`, `"distinct":2,"exact":true`)
	// Small numbers of distinct values are counted exactly, and large ones are estimated.
	s.putQuery("", "many", "SELECT i AS all, (i * 7919) % 9000 AS some FROM range(20000) x(i)")
	s.wantGet("/api/profile?table=many&column=some", 200, `"distinct":9000,"exact":true`)
	s.wantGet("/api/profile?table=many&column=all", 200, `"exact":false`)
}

// TestVolatileCountsNotCached checks that a row count is not cached if it can change while the table stays the same.
func TestVolatileCountsNotCached(t *testing.T) {
	for filter, want := range map[string]bool{"x > CURRENT_TIMESTAMP": true, "x IN (FROM u)": true, "x < localtimestamp": true, "x > 7 AND sym = 'A'": false} {
		if volatileFilter.MatchString(filter) != want {
			t.Errorf("volatileFilter matches %q: %v, want %v", filter, !want, want)
		}
	}
}

// TestVersionsInTail checks that the page lists and reads the version of rows that are still in the tail, and that an
// expired version is not found.
func TestVersionsInTail(t *testing.T) {
	s := serve(t, flightd.Options{})
	for n := range 3 {
		s.wantPost("/api/put?bucket=B&table=t&mode=append&format=csv", fmt.Sprintf("n\n%d\n", n), 200, `"version":1`)
	}
	_, text := s.wantGet("/api/table?bucket=B&table=t", 200, `"rows":3`, `"version":1`)
	var out struct{ Versions []versionJSON }
	if err := json.Unmarshal([]byte(text), &out); err != nil || len(out.Versions) != 1 || out.Versions[0].Rows != 3 || !out.Versions[0].Current {
		t.Fatalf("versions %+v, error %v; want one version of 3 rows", out.Versions, err)
	}
	for _, path := range []string{"/api/rows?bucket=B&table=t", "/api/rows?bucket=B&table=t&version=1"} {
		a, _ := s.wantGet(path, 200)
		if a.Header.Get("X-Partd-Rows") != "3" || a.Header.Get("X-Partd-Version") != "1" {
			t.Errorf("%s: %v, want 3 rows of version 1", path, a.Header)
		}
	}
	s.wantPost("/api/put?bucket=B&table=t&mode=append&format=csv", "n\n9\n", 200, `"version":2`)
	a, text := s.wantGet("/api/changes?bucket=B&table=t&format=csv&since=1", 200, "9,insert")
	if strings.Count(text, "insert") != 1 || a.Header.Get("Partd-Version") != "2" {
		t.Errorf("changes since version 1: %s, version %s; want row 9 and version 2", text, a.Header.Get("Partd-Version"))
	}
	s.putQuery("B", "t", "SELECT 7 AS n")
	must.Get(s.store.Expire(t.Context(), &tables.MaintainOptions{OlderThan: 1, Keep: 1}))(t)
	for path, status := range map[string]int{"rows?bucket=B&table=t&version=2": 404, "changes?bucket=B&table=t&format=csv&since=2": 404, "rows?bucket=B&table=t&version=3": 200} {
		s.wantGet("/api/"+path, status)
	}
}
