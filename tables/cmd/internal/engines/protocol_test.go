package engines

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The tests in this file send requests exactly as specified, without a client library.

var schema = map[string]any{
	"type": "struct", "schema-id": 0, "fields": []any{
		map[string]any{"id": 1, "name": "n", "required": false, "type": "long"},
		map[string]any{"id": 2, "name": "s", "required": false, "type": "string"},
	},
}

func namespacePath(name string) string { return "/v1/namespaces/" + url.PathEscape(name) }

func tablePath(space, name string) string {
	return namespacePath(space) + "/tables/" + url.PathEscape(name)
}

func (s *server) mustNamespace(name string) {
	s.t.Helper()
	if a := s.send("POST", "/v1/namespaces", map[string]any{"namespace": []string{name}}); a.code != 200 {
		s.t.Fatalf("create namespace %q: got %d %s", name, a.code, a.raw)
	}
}

func (s *server) mustTable(space, name string) answer {
	s.t.Helper()
	a := s.send("POST", namespacePath(space)+"/tables", map[string]any{"name": name, "schema": schema})
	if a.code != 200 {
		s.t.Fatalf("create table %q: got %d %s", name, a.code, a.raw)
	}
	return a
}

// expect checks an answer's status code. If kind is not "", the body must be an error of that type.
func (a answer) expect(t *testing.T, description string, code int, kind string) {
	t.Helper()
	if a.code != code {
		t.Errorf("%s: got status %d, want %d: %s", description, a.code, code, a.raw)
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
		t.Errorf("%s: got error %s, want type %s, code %d and a message", description, a.raw, kind, code)
	}
	if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, "application/json") {
		t.Errorf("%s: the error has the content type %q, want application/json", description, got)
	}
}

func endpoints(t *testing.T, a answer) (all []string) {
	t.Helper()
	list, _ := a.value("endpoints").([]any)
	for _, e := range list {
		text, _ := e.(string)
		if !regexp.MustCompile(`^(GET|HEAD|POST|DELETE) /v1/\{prefix\}/`).MatchString(text) {
			t.Errorf("endpoint %q does not have the specified form", text)
		}
		all = append(all, text)
	}
	return all
}

// TestEndpoints checks that the server has all endpoints that config lists, and no others.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	s := serve(t)
	a := s.send("GET", "/v1/config", nil)
	a.expect(t, "config", 200, "")
	for _, part := range []string{"defaults", "overrides"} {
		if _, ok := a.value(part).(map[string]any); !ok {
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
			continue // other tests check the endpoints that config lists
		}
		method, path, _ := strings.Cut(strings.NewReplacer("/{prefix}", "", "{namespace}", "there", "{table}", "t").Replace(e), " ")
		a := s.send(method, path, map[string]any{})
		if a.code != 404 && a.code != 405 && a.code != 406 && a.code != 501 || a.text("error", "message") == "" {
			t.Errorf("%s, which config does not list, responds with %d: %s", e, a.code, a.raw)
		}
	}
	s.send("PUT", tablePath("there", "t"), nil).expect(t, "PUT", 404, "NoSuchEndpointException")
	for _, e := range listed {
		method, path, _ := strings.Cut(strings.NewReplacer("/{prefix}", "", "{namespace}", "gone", "{table}", "t").Replace(e), " ")
		a := s.send(method, path, "{")
		if a.code == 405 || a.code == 406 || a.code == 501 || a.code >= 500 {
			t.Errorf("%s, which config lists, responds with %d: %s", e, a.code, a.raw)
		}
	}
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	s := serve(t)
	create := func(body any) answer { return s.send("POST", "/v1/namespaces", body) }
	a := create(map[string]any{"namespace": []string{"a b/é"}, "properties": map[string]string{"owner": "me", "x": "1"}})
	a.expect(t, "create", 200, "")
	if got, _ := a.value("namespace").([]any); len(got) != 1 || got[0] != "a b/é" || a.text("properties", "owner") != "me" {
		t.Errorf("create: got %s, want the namespace and its properties", a.raw)
	}
	create(map[string]any{"namespace": []string{"a b/é"}}).expect(t, "create again", 409, "AlreadyExistsException")
	create(map[string]any{"namespace": []string{}}).expect(t, "no name", 400, "BadRequestException")
	create(map[string]any{"namespace": []string{""}}).expect(t, "empty name", 400, "BadRequestException")
	create("{").expect(t, "truncated body", 400, "BadRequestException")
	create(map[string]any{}).expect(t, "empty object", 400, "BadRequestException")
	if a := create(map[string]any{"namespace": []string{"a", "b"}}); a.code < 400 || a.code >= 500 || a.text("error", "message") == "" {
		t.Errorf("create nested namespace: got %d %s, want a 4xx status and a message", a.code, a.raw)
	}
	a = s.send("GET", namespacePath("a b/é"), nil)
	a.expect(t, "load", 200, "")
	if a.text("properties", "owner") != "me" || a.text("properties", "x") != "1" {
		t.Errorf("load: got %s, want the properties owner and x", a.raw)
	}
	s.send("GET", namespacePath("gone"), nil).expect(t, "load missing namespace", 404, "NoSuchNamespaceException")
	s.send("HEAD", namespacePath("a b/é"), nil).expect(t, "exists", 204, "")
	s.send("HEAD", namespacePath("gone"), nil).expect(t, "HEAD of missing namespace", 404, "")

	update := func(name string, removals []string, updates map[string]string) answer {
		return s.send("POST", namespacePath(name)+"/properties", map[string]any{"removals": removals, "updates": updates})
	}
	a = update("a b/é", []string{"x", "none"}, map[string]string{"owner": "you", "new": "2"})
	a.expect(t, "properties", 200, "")
	for key, want := range map[string][]string{"removed": {"x"}, "missing": {"none"}, "updated": {"new", "owner"}} {
		var got []string
		list, _ := a.value(key).([]any)
		for _, v := range list {
			got = append(got, fmt.Sprint(v))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("update properties: %s = %q, want %q", key, got, want)
		}
	}
	a = s.send("GET", namespacePath("a b/é"), nil)
	if a.text("properties", "owner") != "you" || a.value("properties", "x") != nil || a.text("properties", "new") != "2" {
		t.Errorf("after an update: got %s, want owner changed, x removed, and new added", a.raw)
	}
	update("a b/é", []string{"q"}, map[string]string{"q": "1"}).expect(t, "removed and updated", 422, "UnprocessableEntityException")
	update("gone", nil, map[string]string{"q": "1"}).expect(t, "update missing namespace", 404, "NoSuchNamespaceException")

	s.mustTable("a b/é", "t")
	s.send("DELETE", namespacePath("a b/é"), nil).expect(t, "drop namespace with a table", 409, "NamespaceNotEmptyException")
	s.send("DELETE", tablePath("a b/é", "t"), nil).expect(t, "drop the table", 204, "")
	s.send("DELETE", namespacePath("a b/é"), nil).expect(t, "drop", 204, "")
	s.send("DELETE", namespacePath("a b/é"), nil).expect(t, "drop missing namespace", 404, "NoSuchNamespaceException")
	s.send("HEAD", namespacePath("a b/é"), nil).expect(t, "HEAD of dropped namespace", 404, "")
	s.send("GET", namespacePath("a b/é")+"/tables", nil).expect(t, "list tables of missing namespace", 404, "NoSuchNamespaceException")
	if a := s.send("GET", "/v1/namespaces?parent=gone", nil); a.code != 404 {
		t.Errorf("list children of missing namespace: got %d %s, want status 404", a.code, a.raw)
	}
	s.mustNamespace("flat")
	if a := s.send("GET", "/v1/namespaces?parent=flat", nil); a.code != 200 || len(listedNames(a, "namespaces")) != 0 {
		t.Errorf("list children of namespace without children: got %d %s, want an empty list", a.code, a.raw)
	}
}

func listedNames(a answer, key string) (all []string) {
	list, _ := a.value(key).([]any)
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

// TestPagination checks that the pages of a list together contain each name once, even if a table is dropped
// between two requests.
func TestPagination(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("n%02d", i)
		want = append(want, name)
		s.mustNamespace(name)
		s.mustTable("n00", name)
	}
	for path, key := range map[string]string{"/v1/namespaces": "namespaces", namespacePath("n00") + "/tables": "identifiers"} {
		for _, size := range []int{1, 7, 25, 100} {
			var got []string
			token, pages := "", 0
			for {
				a := s.send("GET", fmt.Sprintf("%s?pageSize=%d&pageToken=%s", path, size, url.QueryEscape(token)), nil)
				a.expect(t, "page", 200, "")
				page := listedNames(a, key)
				if len(page) > size {
					t.Errorf("%s: a page of size %d contains %d names", path, size, len(page))
				}
				got = append(got, page...)
				if token = a.text("next-page-token"); token == "" {
					break
				}
				if pages++; pages > 30 {
					t.Fatalf("%s: no last page with page size %d", path, size)
				}
			}
			got = slices.DeleteFunc(got, func(n string) bool { return n == "default" })
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%s with page size %d: got %q, want %q", path, size, got, want)
			}
		}
		if a := s.send("GET", path, nil); len(listedNames(a, key)) < 25 || a.text("next-page-token") != "" {
			t.Errorf("%s without a page size: got %s, want all names without a next-page-token", path, a.raw)
		}
		for _, bad := range []string{"0", "-1", "x"} {
			s.send("GET", path+"?pageSize="+bad, nil).expect(t, "pageSize "+bad, 400, "BadRequestException")
		}
		if a := s.send("GET", path+"?pageSize=3&pageToken="+url.QueryEscape("\x00not a token"), nil); a.code >= 500 {
			t.Errorf("invalid page token: got %d %s, want a status below 500", a.code, a.raw)
		}
	}
	first := s.send("GET", namespacePath("n00")+"/tables?pageSize=10", nil)
	lastName := listedNames(first, "identifiers")[9]
	s.send("DELETE", tablePath("n00", lastName), nil).expect(t, "drop", 204, "")
	rest := s.send("GET", namespacePath("n00")+"/tables?pageSize=100&pageToken="+url.QueryEscape(first.text("next-page-token")), nil)
	got := slices.Concat(listedNames(first, "identifiers"), listedNames(rest, "identifiers"))
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("pages around a dropped table: got %q, want %q", got, want)
	}
}

func TestTables(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.mustNamespace("a")
	s.mustNamespace("b")
	create := func(space string, body map[string]any) answer {
		return s.send("POST", namespacePath(space)+"/tables", body)
	}
	created := s.mustTable("a", "t é/%")
	for _, part := range []string{"metadata-location"} {
		if created.text(part) == "" {
			t.Errorf("create: the response has no %s: %s", part, created.raw)
		}
	}
	if created.text("metadata", "table-uuid") == "" || !strings.HasPrefix(created.text("metadata", "location"), "file:///") {
		t.Errorf("create: got metadata %s, want a UUID and a file location", created.raw)
	}
	create("a", map[string]any{"name": "t é/%", "schema": schema}).expect(t, "create again", 409, "AlreadyExistsException")
	create("gone", map[string]any{"name": "t", "schema": schema}).expect(t, "create in missing namespace", 404, "NoSuchNamespaceException")
	create("a", map[string]any{"name": "", "schema": schema}).expect(t, "no name", 400, "BadRequestException")
	create("a", map[string]any{"name": "x"}).expect(t, "no schema", 400, "BadRequestException")
	create("a", map[string]any{"name": "x", "schema": map[string]any{"type": "struct", "fields": []any{map[string]any{"id": 1, "name": "n", "required": true, "type": "integer"}}}}).
		expect(t, "unknown type", 400, "BadRequestException")

	loaded := s.send("GET", tablePath("a", "t é/%"), nil)
	loaded.expect(t, "load", 200, "")
	if loaded.text("metadata-location") != created.text("metadata-location") || loaded.text("metadata", "table-uuid") != created.text("metadata", "table-uuid") {
		t.Errorf("load: got %s, want the metadata location and UUID of create: %s", loaded.raw, created.raw)
	}
	file, ok := strings.CutPrefix(loaded.text("metadata-location"), "file://")
	if _, err := os.Stat(file); !ok || err != nil {
		t.Errorf("metadata location %q: %v", file, err)
	}
	s.send("GET", tablePath("a", "gone"), nil).expect(t, "load missing table", 404, "NoSuchTableException")
	s.send("GET", tablePath("gone", "t"), nil).expect(t, "load from missing namespace", 404, "")
	s.send("HEAD", tablePath("a", "t é/%"), nil).expect(t, "exists", 204, "")
	s.send("HEAD", tablePath("a", "gone"), nil).expect(t, "HEAD of missing table", 404, "")
	s.send("GET", tablePath("a", "t é/%")+"?snapshots=some", nil).expect(t, "snapshots=some", 400, "BadRequestException")

	etag := loaded.header.Get("ETag")
	if etag == "" || etag != created.header.Get("ETag") {
		t.Errorf("got ETag %q after create, %q after load, want equal ones", created.header.Get("ETag"), etag)
	}
	refs := s.send("GET", tablePath("a", "t é/%")+"?snapshots=refs", nil)
	refs.expect(t, "load refs", 200, "")
	if refs.header.Get("ETag") == etag {
		t.Error("snapshots=refs and snapshots=all have the same ETag")
	}
	same := s.send("GET", tablePath("a", "t é/%"), nil, "If-None-Match", etag)
	if same.code != 304 || same.raw != "" {
		t.Errorf("If-None-Match with the current ETag: got %d %q, want status 304 without a body", same.code, same.raw)
	}
	s.send("GET", tablePath("a", "t é/%")+"?snapshots=refs", nil, "If-None-Match", refs.header.Get("ETag")).expect(t, "refs with the ETag of refs", 304, "")
	s.send("GET", tablePath("a", "t é/%")+"?snapshots=refs", nil, "If-None-Match", etag).expect(t, "refs with the ETag of all", 200, "")
	s.send("GET", tablePath("a", "t é/%"), nil, "If-None-Match", `"other", W/`+etag).expect(t, "one of two ETags matches", 304, "")

	rename := func(from, fromName, to, toName string) answer {
		id := func(space, name string) any {
			return map[string]any{"namespace": []string{space}, "name": name}
		}
		return s.send("POST", "/v1/tables/rename", map[string]any{"source": id(from, fromName), "destination": id(to, toName)})
	}
	s.mustTable("a", "other")
	rename("a", "gone", "a", "x").expect(t, "rename missing table", 404, "NoSuchTableException")
	rename("a", "other", "gone", "x").expect(t, "rename to missing namespace", 404, "NoSuchNamespaceException")
	rename("a", "other", "a", "t é/%").expect(t, "rename to existing table", 409, "AlreadyExistsException")
	rename("a", "other", "b", "moved").expect(t, "rename", 204, "")
	s.send("HEAD", tablePath("a", "other"), nil).expect(t, "the old name", 404, "")
	s.send("HEAD", tablePath("b", "moved"), nil).expect(t, "the new name", 204, "")

	moved := s.send("GET", tablePath("b", "moved"), nil)
	s.send("DELETE", tablePath("b", "moved"), nil).expect(t, "drop", 204, "")
	s.send("DELETE", tablePath("b", "moved"), nil).expect(t, "drop missing table", 404, "NoSuchTableException")
	register := func(space, name, location string) answer {
		return s.send("POST", namespacePath(space)+"/register", map[string]any{"name": name, "metadata-location": location})
	}
	if a := register("b", "back", moved.text("metadata-location")); a.code != 200 || a.text("metadata", "table-uuid") != moved.text("metadata", "table-uuid") {
		t.Errorf("register dropped table: got %d %s, want the table with its UUID", a.code, a.raw)
	}
	register("b", "back", moved.text("metadata-location")).expect(t, "register again", 409, "AlreadyExistsException")
	register("gone", "back", moved.text("metadata-location")).expect(t, "register in missing namespace", 404, "NoSuchNamespaceException")
	if a := register("b", "none", strings.Replace(moved.text("metadata-location"), "metadata.json", "none.json", 1)); a.code < 400 || a.code >= 500 {
		t.Errorf("register missing metadata: got %d %s, want a 4xx status", a.code, a.raw)
	}
	if a := register("b", "stolen", "file:///etc/passwd"); a.code < 400 || a.code >= 500 || strings.Contains(a.raw, "root:") {
		t.Errorf("register /etc/passwd: got %d %s, want a 4xx status without the content", a.code, a.raw)
	}
	s.send("DELETE", tablePath("b", "back")+"?purgeRequested=true", nil).expect(t, "purge", 204, "")
	s.send("HEAD", tablePath("b", "back"), nil).expect(t, "after a purge", 404, "")
	s.send("POST", tablePath("a", "t é/%")+"/metrics", map[string]any{"report-type": "scan-report", "table-name": "a.t", "snapshot-id": 1, "filter": true, "schema-id": 0, "projected-field-ids": []int{1}, "projected-field-names": []string{"n"}, "metrics": map[string]any{}}).
		expect(t, "metrics", 204, "")
	s.send("POST", tablePath("a", "gone")+"/metrics", map[string]any{"report-type": "scan-report"}).expect(t, "metrics of missing table", 404, "NoSuchTableException")

	delegated := s.send("GET", tablePath("a", "t é/%"), nil, "X-Iceberg-Access-Delegation", "vended-credentials")
	if delegated.code != 200 && delegated.text("error", "message") == "" {
		t.Errorf("vended credentials for a directory: got %d %s, want status 200 or a message", delegated.code, delegated.raw)
	}
}

func requirementOf(kind string, more ...any) map[string]any {
	m := map[string]any{"type": kind}
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i].(string)] = more[i+1]
	}
	return m
}

func setProperty(key, value string) map[string]any {
	return map[string]any{"action": "set-properties", "updates": map[string]string{key: value}}
}

func TestCommits(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.mustNamespace("a")
	created := s.mustTable("a", "t")
	uuid := created.text("metadata", "table-uuid")
	commit := func(name string, requirements, updates []any) answer {
		return s.send("POST", tablePath("a", name), map[string]any{"requirements": append([]any{}, requirements...), "updates": updates})
	}
	a := commit("t", []any{requirementOf("assert-table-uuid", "uuid", uuid), requirementOf("assert-ref-snapshot-id", "ref", "main", "snapshot-id", nil), requirementOf("assert-last-assigned-field-id", "last-assigned-field-id", 2), requirementOf("assert-current-schema-id", "current-schema-id", 0), requirementOf("assert-default-spec-id", "default-spec-id", 0), requirementOf("assert-default-sort-order-id", "default-sort-order-id", 0), requirementOf("assert-last-assigned-partition-id", "last-assigned-partition-id", 999)}, []any{setProperty("mine", "1")})
	a.expect(t, "commit", 200, "")
	if a.text("metadata-location") == "" || a.text("metadata-location") == created.text("metadata-location") || a.text("metadata", "properties", "mine") != "1" {
		t.Errorf("commit: got %s, want a new metadata location and the property", a.raw)
	}
	after := s.send("GET", tablePath("a", "t"), nil)
	if after.text("metadata-location") != a.text("metadata-location") || after.text("metadata", "properties", "mine") != "1" {
		t.Errorf("load after a commit: got %s, want the committed metadata", after.raw)
	}
	if etag := a.header.Get("ETag"); etag == created.header.Get("ETag") || etag != after.header.Get("ETag") {
		t.Errorf("got ETag %q before the commit, %q in its response, %q after", created.header.Get("ETag"), etag, after.header.Get("ETag"))
	}
	s.send("GET", tablePath("a", "t"), nil, "If-None-Match", created.header.Get("ETag")).expect(t, "ETag from before the commit", 200, "")

	for name, requirement := range map[string]map[string]any{
		"another uuid":      requirementOf("assert-table-uuid", "uuid", "9c12d441-03fe-4693-9a96-a0705ddf69c1"),
		"another snapshot":  requirementOf("assert-ref-snapshot-id", "ref", "main", "snapshot-id", 7),
		"another schema":    requirementOf("assert-current-schema-id", "current-schema-id", 5),
		"another field":     requirementOf("assert-last-assigned-field-id", "last-assigned-field-id", 9),
		"another spec":      requirementOf("assert-default-spec-id", "default-spec-id", 3),
		"another order":     requirementOf("assert-default-sort-order-id", "default-sort-order-id", 3),
		"another partition": requirementOf("assert-last-assigned-partition-id", "last-assigned-partition-id", 1005),
		"existing table":    requirementOf("assert-create"),
	} {
		if a := commit("t", []any{requirement}, []any{setProperty("lost", "1")}); a.code != 409 || a.text("error", "type") != "CommitFailedException" && a.text("error", "type") != "AlreadyExistsException" {
			t.Errorf("commit that requires %s: got %d %s, want status 409", name, a.code, a.raw)
		}
	}
	commit("t", []any{requirementOf("assert-the-moon")}, []any{setProperty("lost", "1")}).expect(t, "unknown requirement", 400, "BadRequestException")
	commit("t", nil, []any{map[string]any{"action": "paint-it-black"}}).expect(t, "unknown update", 400, "BadRequestException")
	commit("t", nil, []any{setProperty("lost", "1"), map[string]any{"action": "set-current-schema", "schema-id": 77}}).expect(t, "unknown schema", 400, "")
	commit("gone", nil, []any{setProperty("lost", "1")}).expect(t, "commit to missing table", 404, "NoSuchTableException")
	s.send("POST", tablePath("a", "t"), "{\"updates\":").expect(t, "truncated body", 400, "BadRequestException")
	after = s.send("GET", tablePath("a", "t"), nil)
	if after.value("metadata", "properties", "lost") != nil || after.text("metadata-location") != a.text("metadata-location") {
		t.Errorf("a refused commit changed the table to %s", after.raw)
	}
}

// TestStagedTable checks that a staged table exists only after its commit.
func TestStagedTable(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.mustNamespace("a")
	staged := s.send("POST", namespacePath("a")+"/tables", map[string]any{"name": "t", "schema": schema, "stage-create": true, "properties": map[string]string{"p": "1"}})
	staged.expect(t, "stage", 200, "")
	if staged.text("metadata-location") != "" || staged.text("metadata", "location") == "" {
		t.Errorf("stage: got %s, want a location, but no metadata location", staged.raw)
	}
	s.send("HEAD", tablePath("a", "t"), nil).expect(t, "before the commit", 404, "")
	if names := listedNames(s.send("GET", namespacePath("a")+"/tables", nil), "identifiers"); len(names) != 0 {
		t.Errorf("before the commit, the namespace contains %q, want no tables", names)
	}
	metadata := staged.value("metadata").(map[string]any)
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
		setProperty("p", "1"),
	}
	commit := func() answer {
		return s.send("POST", tablePath("a", "t"), map[string]any{"requirements": []any{requirementOf("assert-create")}, "updates": updates})
	}
	a := commit()
	a.expect(t, "commit", 200, "")
	loaded := s.send("GET", tablePath("a", "t"), nil)
	if loaded.text("metadata", "table-uuid") != staged.text("metadata", "table-uuid") || loaded.text("metadata", "properties", "p") != "1" {
		t.Errorf("load after the commit: got %s, want the staged UUID and property", loaded.raw)
	}
	if a := commit(); a.code != 409 {
		t.Errorf("second commit: got %d %s, want status 409", a.code, a.raw)
	}
}
