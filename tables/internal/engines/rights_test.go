package engines

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
)

// A row that was just put through Flight, and is not yet in a file, is in the next query of
// every engine.
func TestNextQuery(t *testing.T) {
	t.Parallel()
	s := serve(t)
	o := s.own(t)
	const name = "live.ticks"
	if err := o.putOne(name, 0); err != nil {
		t.Fatal(err)
	}
	all := map[string]*engine{}
	for _, kind := range []string{"duckdb", "spark", "pyiceberg", "polars", "daft"} {
		all[kind] = s.engine(t, kind)
	}
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	others.Go(func() { // an endless stream
		for n := int64(-1); ctx.Err() == nil; n-- {
			if err := o.putOne(name, n); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	defer others.Wait()
	defer stop()
	for n := range int64(8) {
		for kind, e := range all {
			if err := o.putOne(name, n); err != nil {
				t.Fatal(err)
			}
			from := time.Now()
			rows, has := e.must("rows", "table", name), false
			for _, r := range rows {
				has = has || fmt.Sprint(r["n"]) == fmt.Sprint(n)
			}
			if !has {
				t.Errorf("%s does not see %d, which was put before, among %d rows", kind, n, len(rows))
			}
			t.Logf("%s: %s", kind, time.Since(from).Round(time.Millisecond))
		}
	}
}

// Without a right, a client can read nothing, commit nothing, and learn no names.
func TestIntruder(t *testing.T) {
	t.Parallel()
	s := serveSecret(t)
	const hidden, secretTable, shown = "hiddenplace", "payroll", "shownplace"
	for _, space := range []string{hidden, shown} {
		s.mustNamespace(space)
		s.mustTable(space, secretTable)
	}
	if err := s.own(t).put(hidden+"."+secretTable, []column{{"n", "long"}, {"s", "string"}}, []record{{"n": int64(1), "s": "a"}}, tables.PutAppend); err != nil {
		t.Fatal(err)
	}
	made := s.ask("GET", tab(hidden, secretTable), nil)
	uuid, location := made.text("metadata", "table-uuid"), made.text("metadata-location")
	before := made.raw
	id := func(space, name string) any { return map[string]any{"namespace": []string{space}, "name": name} }
	change := map[string]any{"requirements": []any{}, "updates": []any{set("mine", "1")}}
	in := func(space, name string) any {
		return map[string]any{"identifier": id(space, name), "requirements": []any{}, "updates": []any{set("mine", "1")}}
	}
	readsAll, readsShown, writesShown := s.newToken("--read"), s.newToken("--read", "--bucket", shown), s.newToken("--admin", "--bucket", shown)
	type try struct {
		method, path string
		body         any
	}
	about := func(space, name string) []try {
		return []try{
			{"GET", ns(space), nil},
			{"HEAD", ns(space), nil},
			{"GET", ns(space) + "/tables", nil},
			{"GET", "/v1/namespaces?parent=" + space, nil},
			{"GET", tab(space, name), nil},
			{"HEAD", tab(space, name), nil},
			{"GET", tab(space, name) + "?snapshots=refs", nil},
			{"POST", tab(space, name), change},
			{"DELETE", tab(space, name), nil},
			{"DELETE", tab(space, name) + "?purgeRequested=true", nil},
			{"POST", tab(space, name) + "/metrics", map[string]any{"report-type": "scan-report"}},
			{"GET", tab(space, name) + "/credentials", nil},
			{"DELETE", ns(space), nil},
			{"POST", ns(space) + "/properties", map[string]any{"removals": []string{}, "updates": map[string]string{"x": "1"}}},
			{"POST", ns(space) + "/tables", map[string]any{"name": "new", "schema": schema}},
			{"POST", ns(space) + "/tables", map[string]any{"name": "new", "schema": schema, "stage-create": true}},
			{"POST", "/v1/tables/rename", map[string]any{"source": id(space, name), "destination": id(shown, "stolen")}},
			{"POST", "/v1/tables/rename", map[string]any{"source": id(shown, secretTable), "destination": id(space, "given")}},
			{"POST", "/v1/transactions/commit", map[string]any{"table-changes": []any{in(shown, secretTable), in(space, name)}}},
		}
	}
	// Hidden names and missing names yield the same answers.
	for who, token := range map[string]string{"reads another": readsShown, "writes another": writesShown} {
		there, gone := about(hidden, secretTable), about("absentplace", "absents")
		for i, c := range there {
			a, b := s.askAs(token, c.method, c.path, c.body), s.askAs(token, gone[i].method, gone[i].path, gone[i].body)
			what := fmt.Sprintf("%s: %s %s", who, c.method, c.path)
			if a.code < 400 || a.code >= 500 {
				t.Errorf("%s: %d %s", what, a.code, a.raw)
			}
			same := strings.NewReplacer("absentplace", hidden, "absents", secretTable)
			if a.code != b.code || a.raw != same.Replace(b.raw) {
				t.Errorf("%s: %d %s, and where there is nothing %d %s", what, a.code, a.raw, b.code, b.raw)
			}
			for _, told := range []string{uuid, location} {
				if strings.Contains(a.raw, told) {
					t.Errorf("%s tells %q: %s", what, told, a.raw)
				}
			}
		}
		if a := s.askAs(token, "GET", "/v1/namespaces", nil); a.code != 200 || strings.Contains(a.raw, hidden) || !strings.Contains(a.raw, shown) {
			t.Errorf("%s lists %d %s", who, a.code, a.raw)
		}
		if a := s.askAs(token, "POST", ns(shown)+"/register", map[string]any{"name": "stolen", "metadata-location": location}); a.code < 400 || a.code >= 500 || strings.Contains(a.raw, uuid) {
			t.Errorf("%s registers another's metadata: %d %s", who, a.code, a.raw)
		}
	}
	for who, token := range map[string]string{"reads all": readsAll, "reads this": readsShown} {
		for _, c := range about(shown, secretTable) {
			a := s.askAs(token, c.method, c.path, c.body)
			if c.method == "GET" || c.method == "HEAD" || strings.HasSuffix(c.path, "/metrics") {
				if a.code >= 400 && !strings.HasSuffix(c.path, "/credentials") {
					t.Errorf("%s: %s %s: %d %s", who, c.method, c.path, a.code, a.raw)
				}
				continue
			}
			if a.code != 403 || a.text("error", "type") != "ForbiddenException" {
				t.Errorf("%s: %s %s: %d %s", who, c.method, c.path, a.code, a.raw)
			}
		}
		if a := s.askAs(token, "POST", "/v1/namespaces", map[string]any{"namespace": []string{"mine"}}); a.code != 403 {
			t.Errorf("%s creates a namespace: %d %s", who, a.code, a.raw)
		}
	}
	if after := s.ask("GET", tab(hidden, secretTable), nil); after.raw != before {
		t.Errorf("the hidden table was %s, and is %s", before, after.raw)
	}
	if names := listOf(s.ask("GET", ns(shown)+"/tables", nil), "identifiers"); len(names) != 1 {
		t.Errorf("there are tables %q", names)
	}

	// Engines can list and read what their token allows.
	for _, kind := range []string{"duckdb", "pyiceberg", "spark"} {
		e, err := s.tryEngine(t, kind, readsShown)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := fmt.Sprint(e.must("names")); strings.Contains(got, hidden) || !strings.Contains(got, shown) {
			t.Errorf("%s lists %s", kind, got)
		}
		if rows, err := e.try("rows", "table", hidden+"."+secretTable); err == nil {
			t.Errorf("%s reads %v", kind, rows)
		}
		if _, err := e.try("append", "table", shown+"."+secretTable, "rows", []record{{"n": 5, "s": "x"}}); err == nil {
			t.Errorf("%s appends with a token that reads", kind)
		}
		if rows, err := e.try("rows", "table", shown+"."+secretTable); err != nil || len(rows) != 0 {
			t.Errorf("%s reads %v, %v", kind, rows, err)
		}
	}
}
