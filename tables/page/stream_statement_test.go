package page

import (
	"net/url"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables/flightd"
)

// TestDescribeRights checks that a token for one bucket reveals nothing about other buckets through statements such
// as DESCRIBE.
func TestDescribeRights(t *testing.T) {
	s := serve(t, flightd.Options{Secret: secret})
	for _, bucket := range []string{"", "A", "B"} {
		s.putQuery(bucket, "t", "SELECT 1 AS x")
		s.putQuery(bucket, "hidden in "+bucket, "SELECT 'secret' AS \"secret of "+bucket+"\"")
	}
	b := s.withToken(flightd.Read, "B")
	for _, sql := range []string{"SHOW TABLES", "SHOW ALL TABLES"} {
		_, text := b.wantPost("/api/query", jsonOf(t, map[string]any{"id": queryID, "sql": sql, "bucket": "B"}), 200)
		if got := strings.Join(column(t, text, "name"), ","); got != "hidden in B,t" {
			t.Errorf("%s: got %s, want the tables of bucket B", sql, got)
		}
	}
	for _, sql := range []string{
		`DESCRIBE "A"."hidden in A"`, `SUMMARIZE "A"."hidden in A"`, `SHOW "A"."hidden in A"`, `EXPLAIN SELECT * FROM "A"."hidden in A"`, `FROM (DESCRIBE "A".t)`, `DESCRIBE SELECT * FROM "A".t`,
		`SELECT * FROM before."A".t`, `SELECT * FROM changes."A".t`, `EXPLAIN SELECT * FROM before."A".t`, `DESCRIBE "default".t`, `SUMMARIZE "A".nothing`, `EXPLAIN SELECT * FROM "A".nothing`,
	} {
		body := map[string]any{"id": queryID, "sql": sql, "bucket": "B", "before_version": 1}
		a, text := b.post("/api/query", jsonOf(t, body))
		if b.expect(a, text, 403); strings.Contains(text, "secret of") {
			t.Errorf("%s reveals columns of another bucket: %s", sql, text)
		}
		a, text = b.get("/api/profile?column=x&bucket=B&before_version=1&sql=" + url.QueryEscape(sql))
		if a.StatusCode != 403 || strings.Contains(text, "secret of") {
			t.Errorf("profile of %s: got %d %s, want status 403", sql, a.StatusCode, text)
		}
		b.wantGet("/api/download?format=csv&bucket=B&before_version=1&sql="+url.QueryEscape(sql), 403)
	}
	b.wantGet("/api/profile?column=x&bucket=A&sql=SELECT+1+AS+x", 403, "bucket")
	b.wantGet("/api/changes?format=csv&bucket=A&table=t", 403)
}

func TestChanges(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("B", "t", "SELECT unnest([1, 2, 3]) AS x")
	s.putQuery("B", "t", "SELECT unnest([2, 3, 4]) AS x")
	path := "/api/changes?bucket=B&table=t"
	a, text := s.wantGet(path+"&format=csv&since=1", 200, "x,_change", "4,insert", "1,delete")
	uuid := a.Header.Get("Partd-UUID")
	if a.Header.Get("Partd-Version") != "2" || uuid == "" || strings.Count(text, "\n") != 3 {
		t.Errorf("the changes are %s, with headers %v; want version 2, a UUID and two rows", text, a.Header)
	}
	s.wantGet(path+"&format=jsonl&version=1&uuid="+uuid, 200, `{"x":3,"_change":"insert"}`)
	s.wantGet(path+"&format=csv&since=1&keys=x", 200, "4,insert")
	for query, status := range map[string]int{
		"&format=csv&since=99": 404, "&format=csv&since=x": 400, "&format=csv&since=1&since_snapshot=s": 400, "&format=x": 400,
		"&format=csv&keys=y": 400, "&format=csv&uuid=x": 404,
	} {
		s.wantGet(path+query, status)
	}
}

func TestCompareVersions(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("B", "t", "SELECT unnest([1, 2, 3]) AS x")
	s.putQuery("B", "t", "SELECT unnest([2, 3, 4]) AS x")
	sql := `SELECT 'added' AS change, * FROM (FROM t EXCEPT ALL FROM before."B".t) UNION ALL SELECT 'removed', * FROM (FROM before."B".t EXCEPT ALL FROM t) ORDER BY ALL`
	body := map[string]any{"id": queryID, "sql": sql, "bucket": "B", "version": 2, "before_version": 1}
	_, text := s.wantPost("/api/query", jsonOf(t, body), 200)
	if got := strings.Join(append(column(t, text, "change"), column(t, text, "x")...), ","); got != "added,removed,4,1" {
		t.Errorf("got changes %s, want added 4, removed 1", got)
	}
	s.wantGet("/api/download?format=csv&bucket=B&version=2&before_version=1&sql="+url.QueryEscape(sql), 200, "added,4")
	body["before_snapshot"] = "none"
	s.wantPost("/api/query", jsonOf(t, body), 400, "cannot be combined")
}

func TestProfileOfStatement(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("B", "t", "SELECT i % 4 AS x, 'v' || i % 3 AS s FROM range(100) t(i)")
	sql := url.QueryEscape("SELECT x + 1 AS y, s FROM t -- of all")
	s.wantGet("/api/profile?bucket=B&column=y&filter=y+>+2&sql="+sql, 200, `"rows":50,"nulls":0,`, `"min":"3","max":"4"`, `"histogram":[`)
	s.wantGet("/api/profile?bucket=B&column=s&sql="+sql, 200, `"rows":100`, `{"value":"v0","count":34}`)
	for path, want := range map[string]string{"column=z": "no column", "column=s&table=t": "cannot be combined", "column=s&filter=nothing": "nothing"} {
		s.wantGet("/api/profile?bucket=B&"+path+"&sql="+sql, 400, want)
	}
}
