package engines

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// This file follows the specification to the letter, without a client library.

var schema = map[string]any{
	"type": "struct", "schema-id": 0, "fields": []any{
		map[string]any{"id": 1, "name": "n", "required": false, "type": "long"},
		map[string]any{"id": 2, "name": "s", "required": false, "type": "string"},
	},
}

func ns(name string) string { return "/v1/namespaces/" + url.PathEscape(name) }

func tab(space, name string) string { return ns(space) + "/tables/" + url.PathEscape(name) }

func (s *server) mustNamespace(name string) {
	s.t.Helper()
	if a := s.ask("POST", "/v1/namespaces", map[string]any{"namespace": []string{name}}); a.code != 200 {
		s.t.Fatal(a.code, a.raw)
	}
}

// mustTable creates a table in an existing namespace.
func (s *server) mustTable(space, name string) answer {
	s.t.Helper()
	a := s.ask("POST", ns(space)+"/tables", map[string]any{"name": name, "schema": schema})
	if a.code != 200 {
		s.t.Fatal(a.code, a.raw)
	}
	return a
}

// is checks an answer's code, and if kind is given, that its body is an error of that type.
func (a answer) is(t *testing.T, what string, code int, kind string) {
	t.Helper()
	if a.code != code {
		t.Errorf("%s: %d, want %d: %s", what, a.code, code, a.raw)
		return
	}
	if kind == "" {
		return
	}
	got := a.text("error", "type")
	if got == "ValidationException" && kind == "BadRequestException" {
		got = kind // Java's clients treat both types alike
	}
	if got != kind || a.number("error", "code") != int64(code) || a.text("error", "message") == "" {
		t.Errorf("%s: the error is %s, want %s of %d with a message", what, a.raw, kind, code)
	}
	if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, "application/json") {
		t.Errorf("%s: the error is %q", what, got)
	}
}

func endpoints(t *testing.T, a answer) (all []string) {
	t.Helper()
	list, _ := a.at("endpoints").([]any)
	for _, e := range list {
		text, _ := e.(string)
		if !regexp.MustCompile(`^(GET|HEAD|POST|DELETE) /v1/\{prefix\}/`).MatchString(text) {
			t.Errorf("the endpoint %q is not as the specification writes one", text)
		}
		all = append(all, text)
	}
	return all
}

// Endpoints listed by config exist, and endpoints not listed do not.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	s := serve(t)
	a := s.ask("GET", "/v1/config", nil)
	a.is(t, "config", 200, "")
	for _, part := range []string{"defaults", "overrides"} {
		if _, ok := a.at(part).(map[string]any); !ok {
			t.Errorf("config has no %s: %s", part, a.raw)
		}
	}
	listed := endpoints(t, a)
	for _, e := range []string{
		"GET /v1/{prefix}/namespaces", "POST /v1/{prefix}/namespaces", "GET /v1/{prefix}/namespaces/{namespace}", "HEAD /v1/{prefix}/namespaces/{namespace}",
		"DELETE /v1/{prefix}/namespaces/{namespace}", "POST /v1/{prefix}/namespaces/{namespace}/properties", "GET /v1/{prefix}/namespaces/{namespace}/tables",
		"POST /v1/{prefix}/namespaces/{namespace}/tables", "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}", "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
		"POST /v1/{prefix}/namespaces/{namespace}/tables/{table}", "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}", "POST /v1/{prefix}/namespaces/{namespace}/register",
		"POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics", "POST /v1/{prefix}/tables/rename", "POST /v1/{prefix}/transactions/commit",
	} {
		if !slices.Contains(listed, e) {
			t.Errorf("config does not list %s", e)
		}
	}
	s.mustNamespace("there")
	s.mustTable("there", "t")
	for _, e := range []string{
		"GET /v1/{prefix}/namespaces/{namespace}/views", "POST /v1/{prefix}/namespaces/{namespace}/views", "GET /v1/{prefix}/namespaces/{namespace}/views/v",
		"POST /v1/{prefix}/views/rename", "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan", "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/tasks",
		"GET /v1/{prefix}/namespaces/{namespace}/functions",
	} {
		if slices.Contains(listed, e) {
			continue // tested elsewhere
		}
		method, path, _ := strings.Cut(strings.NewReplacer("/{prefix}", "", "{namespace}", "there", "{table}", "t").Replace(e), " ")
		a := s.ask(method, path, map[string]any{})
		if a.code != 404 && a.code != 405 && a.code != 406 && a.code != 501 || a.text("error", "message") == "" {
			t.Errorf("%s is not listed, and answers %d: %s", e, a.code, a.raw)
		}
	}
	for _, e := range listed {
		method, path, _ := strings.Cut(strings.NewReplacer("/{prefix}", "", "{namespace}", "gone", "{table}", "t").Replace(e), " ")
		a := s.ask(method, path, "{")
		if a.code == 405 || a.code == 406 || a.code == 501 || a.code >= 500 {
			t.Errorf("%s is listed, and answers %d: %s", e, a.code, a.raw)
		}
	}
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	s := serve(t)
	create := func(body any) answer { return s.ask("POST", "/v1/namespaces", body) }
	a := create(map[string]any{"namespace": []string{"a b/é"}, "properties": map[string]string{"owner": "me", "x": "1"}})
	a.is(t, "create", 200, "")
	if got, _ := a.at("namespace").([]any); len(got) != 1 || got[0] != "a b/é" || a.text("properties", "owner") != "me" {
		t.Errorf("create: %s", a.raw)
	}
	create(map[string]any{"namespace": []string{"a b/é"}}).is(t, "create again", 409, "AlreadyExistsException")
	create(map[string]any{"namespace": []string{}}).is(t, "no name", 400, "BadRequestException")
	create(map[string]any{"namespace": []string{""}}).is(t, "empty name", 400, "BadRequestException")
	create("{").is(t, "half a body", 400, "BadRequestException")
	create(map[string]any{}).is(t, "no body", 400, "BadRequestException")
	if a := create(map[string]any{"namespace": []string{"a", "b"}}); a.code < 400 || a.code >= 500 || a.text("error", "message") == "" {
		t.Errorf("a namespace in a namespace: %d %s", a.code, a.raw)
	}
	a = s.ask("GET", ns("a b/é"), nil)
	a.is(t, "load", 200, "")
	if a.text("properties", "owner") != "me" || a.text("properties", "x") != "1" {
		t.Errorf("load: %s", a.raw)
	}
	s.ask("GET", ns("gone"), nil).is(t, "load none", 404, "NoSuchNamespaceException")
	s.ask("HEAD", ns("a b/é"), nil).is(t, "exists", 204, "")
	s.ask("HEAD", ns("gone"), nil).is(t, "exists not", 404, "")

	update := func(name string, removals []string, updates map[string]string) answer {
		return s.ask("POST", ns(name)+"/properties", map[string]any{"removals": removals, "updates": updates})
	}
	a = update("a b/é", []string{"x", "none"}, map[string]string{"owner": "you", "new": "2"})
	a.is(t, "properties", 200, "")
	for key, want := range map[string][]string{"removed": {"x"}, "missing": {"none"}, "updated": {"new", "owner"}} {
		var got []string
		list, _ := a.at(key).([]any)
		for _, v := range list {
			got = append(got, fmt.Sprint(v))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s are %q, want %q", key, got, want)
		}
	}
	a = s.ask("GET", ns("a b/é"), nil)
	if a.text("properties", "owner") != "you" || a.at("properties", "x") != nil || a.text("properties", "new") != "2" {
		t.Errorf("after an update: %s", a.raw)
	}
	update("a b/é", []string{"q"}, map[string]string{"q": "1"}).is(t, "removed and updated", 422, "UnprocessableEntityException")
	update("gone", nil, map[string]string{"q": "1"}).is(t, "properties of none", 404, "NoSuchNamespaceException")

	s.mustTable("a b/é", "t")
	s.ask("DELETE", ns("a b/é"), nil).is(t, "drop one with a table", 409, "NamespaceNotEmptyException")
	s.ask("DELETE", tab("a b/é", "t"), nil).is(t, "drop its table", 204, "")
	s.ask("DELETE", ns("a b/é"), nil).is(t, "drop", 204, "")
	s.ask("DELETE", ns("a b/é"), nil).is(t, "drop none", 404, "NoSuchNamespaceException")
	s.ask("HEAD", ns("a b/é"), nil).is(t, "exists no more", 404, "")
	s.ask("GET", ns("a b/é")+"/tables", nil).is(t, "tables of none", 404, "NoSuchNamespaceException")
	if a := s.ask("GET", "/v1/namespaces?parent=gone", nil); a.code != 404 {
		t.Errorf("children of none: %d %s", a.code, a.raw)
	}
	s.mustNamespace("flat")
	if a := s.ask("GET", "/v1/namespaces?parent=flat", nil); a.code != 200 || len(listOf(a, "namespaces")) != 0 {
		t.Errorf("children of one without: %d %s", a.code, a.raw)
	}
}

func listOf(a answer, key string) (all []string) {
	list, _ := a.at(key).([]any)
	for _, v := range list {
		switch v := v.(type) {
		case map[string]any:
			all = append(all, fmt.Sprint(v["name"]))
		case []any:
			all = append(all, fmt.Sprint(v...))
		}
	}
	return all
}

// Pages together contain all names once, whatever is added or dropped between them.
func TestPages(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("n%02d", i)
		want = append(want, name)
		s.mustNamespace(name)
		s.mustTable("n00", name)
	}
	for path, key := range map[string]string{"/v1/namespaces": "namespaces", ns("n00") + "/tables": "identifiers"} {
		for _, size := range []int{1, 7, 25, 100} {
			var got []string
			token, pages := "", 0
			for {
				a := s.ask("GET", fmt.Sprintf("%s?pageSize=%d&pageToken=%s", path, size, url.QueryEscape(token)), nil)
				a.is(t, "page", 200, "")
				page := listOf(a, key)
				if len(page) > size {
					t.Errorf("%s: a page of %d has %d", path, size, len(page))
				}
				got = append(got, page...)
				if token = a.text("next-page-token"); token == "" {
					break
				}
				if pages++; pages > 30 {
					t.Fatalf("%s: pages of %d do not end", path, size)
				}
			}
			got = slices.DeleteFunc(got, func(n string) bool { return n == "default" })
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%s in pages of %d: %q, want %q", path, size, got, want)
			}
		}
		if a := s.ask("GET", path, nil); len(listOf(a, key)) < 25 || a.text("next-page-token") != "" {
			t.Errorf("%s without a size: %s", path, a.raw)
		}
		for _, bad := range []string{"0", "-1", "x"} {
			s.ask("GET", path+"?pageSize="+bad, nil).is(t, "pageSize "+bad, 400, "BadRequestException")
		}
		if a := s.ask("GET", path+"?pageSize=3&pageToken="+url.QueryEscape("\x00not a token"), nil); a.code >= 500 {
			t.Errorf("a wrong page token: %d %s", a.code, a.raw)
		}
	}
	first := s.ask("GET", ns("n00")+"/tables?pageSize=10", nil)
	gone := listOf(first, "identifiers")[9]
	s.ask("DELETE", tab("n00", gone), nil).is(t, "drop", 204, "")
	rest := s.ask("GET", ns("n00")+"/tables?pageSize=100&pageToken="+url.QueryEscape(first.text("next-page-token")), nil)
	got := slices.Concat(listOf(first, "identifiers"), listOf(rest, "identifiers"))
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("pages beside a drop have %q", got)
	}
}

func TestTables(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.mustNamespace("a")
	s.mustNamespace("b")
	create := func(space string, body map[string]any) answer { return s.ask("POST", ns(space)+"/tables", body) }
	made := s.mustTable("a", "t é/%")
	for _, part := range []string{"metadata-location"} {
		if made.text(part) == "" {
			t.Errorf("a table's answer has no %s: %s", part, made.raw)
		}
	}
	if made.text("metadata", "table-uuid") == "" || !strings.HasPrefix(made.text("metadata", "location"), "file:///") {
		t.Errorf("metadata: %s", made.raw)
	}
	create("a", map[string]any{"name": "t é/%", "schema": schema}).is(t, "create again", 409, "AlreadyExistsException")
	create("gone", map[string]any{"name": "t", "schema": schema}).is(t, "create nowhere", 404, "NoSuchNamespaceException")
	create("a", map[string]any{"name": "", "schema": schema}).is(t, "no name", 400, "BadRequestException")
	create("a", map[string]any{"name": "x"}).is(t, "no schema", 400, "BadRequestException")
	create("a", map[string]any{"name": "x", "schema": map[string]any{"type": "struct", "fields": []any{map[string]any{"id": 1, "name": "n", "required": true, "type": "integer"}}}}).
		is(t, "no such type", 400, "BadRequestException")

	loaded := s.ask("GET", tab("a", "t é/%"), nil)
	loaded.is(t, "load", 200, "")
	if loaded.text("metadata-location") != made.text("metadata-location") || loaded.text("metadata", "table-uuid") != made.text("metadata", "table-uuid") {
		t.Errorf("loaded %s, made %s", loaded.raw, made.raw)
	}
	file, ok := strings.CutPrefix(loaded.text("metadata-location"), "file://")
	if _, err := os.Stat(file); !ok || err != nil {
		t.Errorf("the metadata's location %q: %v", file, err)
	}
	s.ask("GET", tab("a", "gone"), nil).is(t, "load none", 404, "NoSuchTableException")
	s.ask("GET", tab("gone", "t"), nil).is(t, "load in none", 404, "")
	s.ask("HEAD", tab("a", "t é/%"), nil).is(t, "exists", 204, "")
	s.ask("HEAD", tab("a", "gone"), nil).is(t, "exists not", 404, "")
	s.ask("GET", tab("a", "t é/%")+"?snapshots=some", nil).is(t, "snapshots=some", 400, "BadRequestException")

	etag := loaded.header.Get("ETag")
	if etag == "" || etag != made.header.Get("ETag") {
		t.Errorf("the ETag is %q after create, %q after load", made.header.Get("ETag"), etag)
	}
	refs := s.ask("GET", tab("a", "t é/%")+"?snapshots=refs", nil)
	refs.is(t, "load refs", 200, "")
	if refs.header.Get("ETag") == etag {
		t.Error("snapshots=refs has the ETag of all")
	}
	same := s.ask("GET", tab("a", "t é/%"), nil, "If-None-Match", etag)
	if same.code != 304 || same.raw != "" {
		t.Errorf("If-None-Match: %d %q", same.code, same.raw)
	}
	s.ask("GET", tab("a", "t é/%")+"?snapshots=refs", nil, "If-None-Match", refs.header.Get("ETag")).is(t, "refs again", 304, "")
	s.ask("GET", tab("a", "t é/%")+"?snapshots=refs", nil, "If-None-Match", etag).is(t, "refs with the tag of all", 200, "")
	s.ask("GET", tab("a", "t é/%"), nil, "If-None-Match", `"other", `+etag).is(t, "one of two tags", 304, "")

	rename := func(from, fromName, to, toName string) answer {
		id := func(space, name string) any {
			return map[string]any{"namespace": []string{space}, "name": name}
		}
		return s.ask("POST", "/v1/tables/rename", map[string]any{"source": id(from, fromName), "destination": id(to, toName)})
	}
	s.mustTable("a", "other")
	rename("a", "gone", "a", "x").is(t, "rename none", 404, "NoSuchTableException")
	rename("a", "other", "gone", "x").is(t, "rename to nowhere", 404, "NoSuchNamespaceException")
	rename("a", "other", "a", "t é/%").is(t, "rename to one that is there", 409, "AlreadyExistsException")
	rename("a", "other", "b", "moved").is(t, "rename", 204, "")
	s.ask("HEAD", tab("a", "other"), nil).is(t, "the old name", 404, "")
	s.ask("HEAD", tab("b", "moved"), nil).is(t, "the new name", 204, "")

	moved := s.ask("GET", tab("b", "moved"), nil)
	s.ask("DELETE", tab("b", "moved"), nil).is(t, "drop", 204, "")
	s.ask("DELETE", tab("b", "moved"), nil).is(t, "drop none", 404, "NoSuchTableException")
	register := func(space, name, location string) answer {
		return s.ask("POST", ns(space)+"/register", map[string]any{"name": name, "metadata-location": location})
	}
	if a := register("b", "back", moved.text("metadata-location")); a.code != 200 || a.text("metadata", "table-uuid") != moved.text("metadata", "table-uuid") {
		t.Errorf("register what was dropped: %d %s", a.code, a.raw)
	}
	register("b", "back", moved.text("metadata-location")).is(t, "register again", 409, "AlreadyExistsException")
	register("gone", "back", moved.text("metadata-location")).is(t, "register nowhere", 404, "NoSuchNamespaceException")
	if a := register("b", "none", strings.Replace(moved.text("metadata-location"), "metadata.json", "none.json", 1)); a.code < 400 || a.code >= 500 {
		t.Errorf("register what is not there: %d %s", a.code, a.raw)
	}
	if a := register("b", "stolen", "file:///etc/passwd"); a.code < 400 || a.code >= 500 || strings.Contains(a.raw, "root:") {
		t.Errorf("register /etc/passwd: %d %s", a.code, a.raw)
	}
	s.ask("DELETE", tab("b", "back")+"?purgeRequested=true", nil).is(t, "purge", 204, "")
	s.ask("HEAD", tab("b", "back"), nil).is(t, "after a purge", 404, "")
	s.ask("POST", tab("a", "t é/%")+"/metrics", map[string]any{"report-type": "scan-report", "table-name": "a.t", "snapshot-id": 1, "filter": true, "schema-id": 0, "projected-field-ids": []int{1}, "projected-field-names": []string{"n"}, "metrics": map[string]any{}}).
		is(t, "metrics", 204, "")
	s.ask("POST", tab("a", "gone")+"/metrics", map[string]any{"report-type": "scan-report"}).is(t, "metrics of none", 404, "NoSuchTableException")

	delegated := s.ask("GET", tab("a", "t é/%"), nil, "X-Iceberg-Access-Delegation", "vended-credentials")
	if delegated.code != 200 && delegated.text("error", "message") == "" {
		t.Errorf("vended credentials for a directory: %d %s", delegated.code, delegated.raw)
	}
}

func assert(kind string, more ...any) map[string]any {
	m := map[string]any{"type": kind}
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i].(string)] = more[i+1]
	}
	return m
}

func set(key, value string) map[string]any {
	return map[string]any{"action": "set-properties", "updates": map[string]string{key: value}}
}

func TestCommits(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.mustNamespace("a")
	made := s.mustTable("a", "t")
	uuid := made.text("metadata", "table-uuid")
	commit := func(name string, requirements, updates []any) answer {
		return s.ask("POST", tab("a", name), map[string]any{"requirements": append([]any{}, requirements...), "updates": updates})
	}
	a := commit("t", []any{assert("assert-table-uuid", "uuid", uuid), assert("assert-ref-snapshot-id", "ref", "main", "snapshot-id", nil), assert("assert-last-assigned-field-id", "last-assigned-field-id", 2), assert("assert-current-schema-id", "current-schema-id", 0), assert("assert-default-spec-id", "default-spec-id", 0), assert("assert-default-sort-order-id", "default-sort-order-id", 0), assert("assert-last-assigned-partition-id", "last-assigned-partition-id", 999)}, []any{set("mine", "1")})
	a.is(t, "commit", 200, "")
	if a.text("metadata-location") == "" || a.text("metadata-location") == made.text("metadata-location") || a.text("metadata", "properties", "mine") != "1" {
		t.Errorf("commit: %s", a.raw)
	}
	after := s.ask("GET", tab("a", "t"), nil)
	if after.text("metadata-location") != a.text("metadata-location") || after.text("metadata", "properties", "mine") != "1" {
		t.Errorf("after a commit: %s", after.raw)
	}
	if etag := a.header.Get("ETag"); etag == made.header.Get("ETag") || etag != after.header.Get("ETag") {
		t.Errorf("the ETag is %q before, %q of the commit, %q after", made.header.Get("ETag"), etag, after.header.Get("ETag"))
	}
	s.ask("GET", tab("a", "t"), nil, "If-None-Match", made.header.Get("ETag")).is(t, "the tag before", 200, "")

	for what, requirement := range map[string]map[string]any{
		"another uuid":      assert("assert-table-uuid", "uuid", "9c12d441-03fe-4693-9a96-a0705ddf69c1"),
		"another snapshot":  assert("assert-ref-snapshot-id", "ref", "main", "snapshot-id", 7),
		"another schema":    assert("assert-current-schema-id", "current-schema-id", 5),
		"another field":     assert("assert-last-assigned-field-id", "last-assigned-field-id", 9),
		"another spec":      assert("assert-default-spec-id", "default-spec-id", 3),
		"another order":     assert("assert-default-sort-order-id", "default-sort-order-id", 3),
		"another partition": assert("assert-last-assigned-partition-id", "last-assigned-partition-id", 1005),
		"it is there":       assert("assert-create"),
	} {
		if a := commit("t", []any{requirement}, []any{set("lost", "1")}); a.code != 409 || a.text("error", "type") != "CommitFailedException" && a.text("error", "type") != "AlreadyExistsException" {
			t.Errorf("%s: %d %s", what, a.code, a.raw)
		}
	}
	commit("t", []any{assert("assert-the-moon")}, []any{set("lost", "1")}).is(t, "unknown requirement", 400, "BadRequestException")
	commit("t", nil, []any{map[string]any{"action": "paint-it-black"}}).is(t, "unknown update", 400, "BadRequestException")
	commit("t", nil, []any{set("lost", "1"), map[string]any{"action": "set-current-schema", "schema-id": 77}}).is(t, "no such schema", 400, "")
	commit("gone", nil, []any{set("lost", "1")}).is(t, "commit to none", 404, "NoSuchTableException")
	s.ask("POST", tab("a", "t"), "{\"updates\":").is(t, "half a body", 400, "BadRequestException")
	after = s.ask("GET", tab("a", "t"), nil)
	if after.at("metadata", "properties", "lost") != nil || after.text("metadata-location") != a.text("metadata-location") {
		t.Errorf("what was refused is there: %s", after.raw)
	}
}

// A staged table exists only after its commit.
func TestStaged(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.mustNamespace("a")
	staged := s.ask("POST", ns("a")+"/tables", map[string]any{"name": "t", "schema": schema, "stage-create": true, "properties": map[string]string{"p": "1"}})
	staged.is(t, "stage", 200, "")
	if staged.text("metadata-location") != "" || staged.text("metadata", "location") == "" {
		t.Errorf("staged: %s", staged.raw)
	}
	s.ask("HEAD", tab("a", "t"), nil).is(t, "before the commit", 404, "")
	if names := listOf(s.ask("GET", ns("a")+"/tables", nil), "identifiers"); len(names) != 0 {
		t.Errorf("before the commit there are %q", names)
	}
	metadata := staged.at("metadata").(map[string]any)
	updates := []any{
		map[string]any{"action": "assign-uuid", "uuid": metadata["table-uuid"]},
		map[string]any{"action": "upgrade-format-version", "format-version": 2},
		map[string]any{"action": "add-schema", "schema": schema, "last-column-id": 2},
		map[string]any{"action": "set-current-schema", "schema-id": -1},
		map[string]any{"action": "add-spec", "spec": map[string]any{"spec-id": 0, "fields": []any{}}},
		map[string]any{"action": "set-default-spec", "spec-id": -1},
		map[string]any{"action": "add-sort-order", "sort-order": map[string]any{"order-id": 0, "fields": []any{}}},
		map[string]any{"action": "set-default-sort-order", "sort-order-id": -1},
		map[string]any{"action": "set-location", "location": metadata["location"]},
		set("p", "1"),
	}
	commit := func() answer {
		return s.ask("POST", tab("a", "t"), map[string]any{"requirements": []any{assert("assert-create")}, "updates": updates})
	}
	a := commit()
	a.is(t, "commit", 200, "")
	loaded := s.ask("GET", tab("a", "t"), nil)
	if loaded.text("metadata", "table-uuid") != staged.text("metadata", "table-uuid") || loaded.text("metadata", "properties", "p") != "1" {
		t.Errorf("after the commit: %s", loaded.raw)
	}
	if a := commit(); a.code != 409 {
		t.Errorf("commit again: %d %s", a.code, a.raw)
	}
}

// A transaction changes either all of its tables or none.
func TestTransactions(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.mustNamespace("a")
	s.mustTable("a", "x")
	s.mustTable("a", "y")
	change := func(name string, requirements ...any) any {
		return map[string]any{"identifier": map[string]any{"namespace": []string{"a"}, "name": name}, "requirements": append([]any{}, requirements...), "updates": []any{set("both", name)}}
	}
	commit := func(changes ...any) answer {
		return s.ask("POST", "/v1/transactions/commit", map[string]any{"table-changes": changes})
	}
	both := func() string {
		x, y := s.ask("GET", tab("a", "x"), nil), s.ask("GET", tab("a", "y"), nil)
		return x.text("metadata", "properties", "both") + y.text("metadata", "properties", "both")
	}
	if a := commit(change("x"), change("y", assert("assert-current-schema-id", "current-schema-id", 9))); a.code != 409 || both() != "" {
		t.Errorf("one does not hold: %d %s, and there is %q", a.code, a.raw, both())
	}
	if a := commit(change("x"), change("gone")); a.code != 404 || both() != "" {
		t.Errorf("one is not there: %d %s, and there is %q", a.code, a.raw, both())
	}
	if a := commit(change("x"), change("y", assert("assert-current-schema-id", "current-schema-id", 0))); a.code != 204 || a.raw != "" || both() != "xy" {
		t.Errorf("both hold: %d %s, and there is %q", a.code, a.raw, both())
	}
}

// A request with no token or a wrong one learns nothing.
func TestUnauthorized(t *testing.T) {
	t.Parallel()
	s := serveSecret(t)
	s.mustNamespace("a")
	s.mustTable("a", "t")
	for _, token := range []string{"", "wrong", s.token + "x"} {
		for _, c := range [][2]string{{"GET", "/v1/config"}, {"GET", "/v1/namespaces"}, {"GET", tab("a", "t")}, {"POST", tab("a", "t")}, {"DELETE", tab("a", "t")}} {
			a := s.askAs(token, c[0], c[1], nil)
			a.is(t, c[0]+" "+c[1], 401, "NotAuthorizedException")
		}
		if a := s.askAs(token, "HEAD", tab("a", "t"), nil); a.code != 401 {
			t.Errorf("HEAD: %d", a.code)
		}
	}
	form := func(values url.Values, headers ...string) answer {
		return s.askAs("", "POST", "/v1/oauth/tokens", values.Encode(), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)...)
	}
	got := form(url.Values{"grant_type": {"client_credentials"}, "client_id": {"me"}, "client_secret": {s.token}, "scope": {"catalog"}})
	if got.code != 200 || got.text("access_token") == "" || !strings.EqualFold(got.text("token_type"), "bearer") {
		t.Fatalf("client credentials: %d %s", got.code, got.raw)
	}
	if cache := got.header.Get("Cache-Control"); cache != "no-store" {
		t.Errorf("a token may be cached: %q", cache)
	}
	if a := s.askAs(got.text("access_token"), "GET", tab("a", "t"), nil); a.code != 200 {
		t.Errorf("with the token of the credentials: %d %s", a.code, a.raw)
	}
	if a := form(url.Values{"grant_type": {"client_credentials"}, "client_id": {"me"}, "client_secret": {"wrong"}}); a.code != 401 && a.code != 400 || a.text("error") != "invalid_client" {
		t.Errorf("wrong credentials: %d %s", a.code, a.raw)
	}
	if a := form(url.Values{"grant_type": {"password"}, "client_secret": {s.token}}); a.code != 400 || a.text("error") != "unsupported_grant_type" {
		t.Errorf("another grant: %d %s", a.code, a.raw)
	}
}

// Malformed and oversized bodies are refused, and do not crash the server.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.mustNamespace("a")
	s.mustTable("a", "t")
	for what, body := range map[string]string{
		"deep":        strings.Repeat(`{"updates":[`, 100_000),
		"null":        "null",
		"a list":      "[]",
		"a text":      `"x"`,
		"numbers":     `{"requirements":[{"type":"assert-ref-snapshot-id","ref":"main","snapshot-id":1e400}],"updates":[]}`,
		"nulls":       `{"requirements":[null],"updates":[null]}`,
		"empty":       `{"requirements":[{}],"updates":[{}]}`,
		"no snapshot": `{"requirements":[],"updates":[{"action":"add-snapshot","snapshot":{}}]}`,
		"no file":     `{"requirements":[],"updates":[{"action":"add-snapshot","snapshot":{"snapshot-id":1,"sequence-number":1,"timestamp-ms":1,"manifest-list":"file:///etc/passwd","summary":{"operation":"append"},"schema-id":0}},{"action":"set-snapshot-ref","ref-name":"main","type":"branch","snapshot-id":1}]}`,
		"elsewhere":   `{"requirements":[],"updates":[{"action":"set-location","location":"file:///etc"}]}`,
	} {
		if a := s.ask("POST", tab("a", "t"), body); a.code < 400 || a.code >= 500 || a.text("error", "message") == "" {
			t.Errorf("%s: %d %s", what, a.code, a.raw)
		}
	}
	if a := s.ask("POST", tab("a", "t"), `{"requirements":[],"updates":[],"x":"`+strings.Repeat("x", 64<<20)+`"}`); a.code != http.StatusRequestEntityTooLarge && a.code != 400 {
		t.Errorf("64 MB: %d %.200s", a.code, a.raw)
	}
	s.ask("GET", tab("a", "t"), nil).is(t, "after all that", 200, "")
}
