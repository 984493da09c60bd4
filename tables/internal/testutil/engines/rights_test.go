package engines

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
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
	if err := s.flightClient(t).put(hidden+"."+secretTable, []column{{"n", "long"}, {"s", "string"}}, []record{{"n": int64(1), "s": "a"}}, tables.PutAppend); err != nil {
		t.Fatal(err)
	}
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
