package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/flightd"
	statecommit "github.com/go-partd/partd/tables/internal/state/commit"
)

// TestCredentialVending checks that clients that request credentials receive them according to their rights. Without
// Options.Lend, responses must contain no credentials.
func TestCredentialVending(t *testing.T) {
	o := Options{Storage: map[string]string{"s3.region": "eu"}}
	get := func(c *catalog, header, path string, code int, texts ...string) map[string]any {
		t.Helper()
		r := c.request("GET", "namespaces/ns/tables/"+path, nil)
		r.Header.Set("Authorization", "Bearer "+c.token)
		r.Header.Set("X-Iceberg-Access-Delegation", header)
		return firstOf(c.do(r, code, texts...))
	}
	c := serve(t, t.TempDir(), flightd.Options{Secret: secret}, o)
	c.put("ns", "t", nil, 1)
	if a := get(c.withToken(flightd.Read), "vended-credentials", "t", 200, `"config":{"s3.region":"eu"}`); a["storage-credentials"] != nil {
		t.Errorf("without Lend, the response contains credentials: %v", a)
	}
	get(c.withToken(flightd.Read), "", "t/credentials", 406, "UnsupportedOperationException", "--rest-role")
	fail := false
	o.Lend = func(_ context.Context, location string, write bool) (map[string]string, error) {
		if fail {
			return nil, errors.New("a message with the server's secret")
		}
		return map[string]string{"s3.access-key-id": fmt.Sprint(strings.Contains(location, "/data/"), write)}, nil
	}
	var log bytes.Buffer
	c = serve(t, t.TempDir(), flightd.Options{Secret: secret, Logger: slog.New(slog.NewTextHandler(&log, nil))}, o)
	c.put("ns", "t", nil, 1)
	c.withToken(flightd.Read).send("GET", "config", nil, 200, "/credentials")
	get(c.withToken(flightd.Read), "vended-credentials,remote-signing", "t", 200, `"s3.access-key-id":"true false"`, `"storage-credentials":[{`)
	get(c.withToken(flightd.Admin), "vended-credentials", "t", 200, `"s3.access-key-id":"true true"`)
	get(c.withToken(flightd.Admin, "ns"), "", "t/credentials", 200, `"s3.access-key-id":"true true"`)
	get(c.withToken(flightd.Admin, "other"), "vended-credentials", "t", 403)
	get(c.withToken(flightd.Admin, "other"), "vended-credentials", "t/credentials", 403)
	if a := get(c.withToken(flightd.Admin), "remote-signing", "t", 200); a["storage-credentials"] != nil {
		t.Errorf("without a request for credentials, the response contains some: %v", a)
	}
	fail = true
	if a := get(c.withToken(flightd.Read), "vended-credentials", "t", 503); strings.Contains(fmt.Sprint(a), "secret") {
		t.Errorf("the error reveals the server's secret: %v", a)
	}
	if !strings.Contains(log.String(), "a message with the server's secret") {
		t.Errorf("the server's log lacks the cause: %s", log.String())
	}
}

// TestTokens checks that requests need a token, that clients receive one for their credentials, and that a token
// grants only the rights that it states.
func TestTokens(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{Secret: secret}, Options{})
	c.send("GET", "config", nil, 401, "NotAuthorizedException")
	c.send("GET", "namespaces", nil, 401, "NotAuthorizedException")
	admin := c.withToken(flightd.Admin)
	form := func(code int, basic bool, values ...string) (map[string]any, http.Header) {
		t.Helper()
		v := url.Values{}
		for i := 0; i < len(values); i += 2 {
			v.Set(values[i], values[i+1])
		}
		r := c.request("POST", "oauth/tokens", strings.NewReader(v.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if basic {
			r.SetBasicAuth("me", admin.token)
		}
		a := must.Get(http.DefaultClient.Do(r))(t)
		defer a.Body.Close()
		if a.StatusCode != code {
			t.Fatalf("token request %.200[3]q: got %[1]s, want %[2]d", a.Status, code, values)
		}
		var out map[string]any
		must.Do(t, json.NewDecoder(a.Body).Decode(&out))
		return out, a.Header
	}
	for _, response := range []map[string]any{
		firstOf(form(200, false, "grant_type", "client_credentials", "client_id", "me", "client_secret", admin.token, "scope", "catalog")),
		firstOf(form(200, true, "grant_type", "client_credentials")),
		firstOf(form(200, false, "grant_type", grantExchange, "subject_token", admin.token, "subject_token_type", tokenType)),
	} {
		if response["access_token"] != admin.token || response["token_type"] != "bearer" || response["expires_in"].(float64) < 3000 {
			t.Errorf("got token response %v, want the client's own token", response)
		}
	}
	if _, h := form(200, true, "grant_type", "client_credentials"); h.Get("Cache-Control") != "no-store" {
		t.Errorf("token response: Cache-Control is %q, want no-store", h.Get("Cache-Control"))
	}
	if a := firstOf(form(401, false, "grant_type", "client_credentials", "client_id", "me", "client_secret", "wrong")); a["error"] != "invalid_client" {
		t.Errorf("wrong secret: got %v, want invalid_client", a)
	}
	if a := firstOf(form(400, false, "grant_type", "password")); a["error"] != "unsupported_grant_type" {
		t.Errorf("unsupported grant type: got %v, want unsupported_grant_type", a)
	}
	form(400, false, "grant_type", strings.Repeat("x", maxPublicBody))
	admin.send("POST", "namespaces", `{"namespace": ["a"]}`, 200)
	admin.create("a", "t")
	reader := c.withToken(flightd.Read)
	reader.send("GET", "namespaces/a/tables/t", nil, 200)
	for _, e := range (&handler{}).endpoints() {
		path := strings.NewReplacer("/v1/{prefix}/", "", "{namespace}", "a", "{table}", "t").Replace(e.path)
		if code := c.statusOf(e.method, path, "{}"); !e.hidden && code != 401 {
			t.Errorf("%s %s without a token: got status %d, want 401", e.method, path, code)
		}
		if e.writes {
			reader.send(e.method, path, `{"namespace": ["b"], "source": {"namespace": ["a"], "name": "t"}, "table-changes": [{"identifier": {"namespace": ["a"], "name": "t"}}]}`, 403, "ForbiddenException")
		}
	}
	expired := must.Get(flightd.NewToken(secret, flightd.Admin, "", -time.Minute))(t)
	c.token = expired
	c.send("GET", "namespaces", nil, 401)
}

// TestForeignBucket checks that a token for some buckets allows neither reading nor changing others, and does not
// reveal whether another bucket exists.
func TestForeignBucket(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{Secret: secret}, Options{})
	admin := c.withToken(flightd.Admin)
	for _, ns := range []string{"hidden", "own"} {
		admin.send("POST", "namespaces", object{"namespace": []string{ns}, "properties": object{"k": "v"}}, 200)
		admin.create(ns, "t")
	}
	location := firstOf(admin.send("GET", "namespaces/hidden/tables/t", nil, 200))["metadata-location"]
	ownBucket := c.withToken(flightd.Admin, "own")
	ownBucket.send("GET", "namespaces", nil, 200, `"namespaces":[["own"]]`)
	ownBucket.send("GET", "namespaces?pageSize=1&pageToken=", nil, 200, `"namespaces":[["own"]]`)
	checkSame := func(method, path string, body any) {
		t.Helper()
		var answers [2]string
		for i, name := range []string{"hidden", "absent"} {
			b := body
			if text, ok := body.(string); ok {
				b = strings.ReplaceAll(text, "NS", name)
			}
			out, _ := ownBucket.send(method, strings.ReplaceAll(path, "NS", name), b, 403)
			answers[i] = strings.ReplaceAll(out["error"].(object)["message"].(string), name, "NS")
		}
		if answers[0] != answers[1] {
			t.Errorf("%s %s: the responses for an existing and a missing bucket differ: %q", method, path, answers)
		}
	}
	for _, e := range (&handler{}).endpoints() {
		if !e.hidden && strings.Contains(e.path, "{namespace}") && e.method != "HEAD" {
			path := strings.NewReplacer("/v1/{prefix}/", "", "{namespace}", "NS", "{table}", "t").Replace(e.path)
			checkSame(e.method, path, "{}")
		}
	}
	checkSame("GET", "namespaces?parent=NS", nil)
	checkSame("POST", "namespaces", `{"namespace": ["NS"]}`)
	checkSame("POST", "tables/rename", `{"source": {"namespace": ["NS"], "name": "t"}, "destination": {"namespace": ["own"], "name": "u"}}`)
	checkSame("POST", "tables/rename", `{"source": {"namespace": ["own"], "name": "t"}, "destination": {"namespace": ["NS"], "name": "u"}}`)
	checkSame("POST", "transactions/commit", `{"table-changes": [{"identifier": {"namespace": ["own"], "name": "t"}, "requirements": [], "updates": [{"action": "set-properties", "updates": {"x": "y"}}]}, {"identifier": {"namespace": ["NS"], "name": "t"}}]}`)
	for _, name := range []string{"hidden", "absent"} {
		ownBucket.send("HEAD", "namespaces/"+name, nil, 403)
		ownBucket.send("HEAD", "namespaces/"+name+"/tables/t", nil, 403)
	}
	ownBucket.send("POST", "namespaces/own/register", object{"name": "stolen", "metadata-location": location}, 409)
	if p := ownBucket.load("own", "t").Properties(); p["x"] != "" {
		t.Error("a part of the refused transaction was committed")
	}
	ownBucket.send("GET", "namespaces/own/tables/t", nil, 200)
	ownBucket.send("GET", "namespaces/own/tables/none", nil, 404, "NoSuchTableException")
}

// TestForeignSnapshots checks that a token for one bucket cannot take over a deleted table that another
// bucket's snapshot still contains, neither by registering the table's metadata nor by creating a table with
// its UUID. A token for the other bucket must be able to register the table.
func TestForeignSnapshots(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{Secret: secret}, Options{})
	admin := c.withToken(flightd.Admin)
	admin.send("POST", "namespaces", object{"namespace": []string{"hidden"}}, 200)
	admin.create("hidden", "t")
	admin.send("POST", "namespaces/hidden/tables/t", c.appendCommit(c.load("hidden", "t"), 1, 2), 200)
	base := c.load("hidden", "t")
	must.Get(c.store.Bucket("hidden").Snapshot(t.Context(), "s"))(t)
	must.Do(t, c.store.Bucket("hidden").Delete(t.Context(), "t"))
	admin.send("POST", "namespaces", object{"namespace": []string{"own"}}, 200)
	ownBucket := c.withToken(flightd.Admin, "own")
	register := object{"name": "stolen", "metadata-location": base.MetadataLocation()}
	ownBucket.send("POST", "namespaces/own/register", register, 409, "AlreadyExistsException")
	take := c.createCommit(base.Metadata().TableUUID(), strings.TrimSuffix(base.Location(), base.Metadata().TableUUID().String()))
	take["updates"] = append(take["updates"].([]any), commitOf(base, base.CurrentSnapshot())["updates"].([]any)...)
	ownBucket.send("POST", "namespaces/own/tables/stolen", take, 409, "AlreadyExistsException")
	ownBucket.send("GET", "namespaces/own/tables/stolen", nil, 404)
	c.withToken(flightd.Admin, "hidden").send("POST", "namespaces/hidden/register", register, 200)
	c.wantRows("hidden", "stolen", 1, 2)
}

// TestCrossSiteRequests checks that requests from other sites' pages are refused.
func TestCrossSiteRequests(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example", "Host": "elsewhere.example"} {
		r := c.request("POST", "namespaces", strings.NewReader(`{"namespace": ["x"]}`))
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
		c.do(r, 403, "ForbiddenException")
	}
	r := c.request("POST", "namespaces", strings.NewReader(`{"namespace": ["x"]}`))
	r.Header.Set("Content-Type", "text/plain")
	c.do(r, 415)
	c.send("GET", "namespaces", nil, 200, `"namespaces":[]`)
}

// TestUsers checks which user each version names, whatever an engine's commit says, and that only admins learn the names.
func TestUsers(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{Secret: secret}, Options{})
	named := func(name string, rights flightd.Rights) *catalog {
		d := *c
		d.token = must.Get(flightd.NewNamedToken(secret, name, rights, time.Hour))(t)
		return &d
	}
	ann, rex := named("ann", flightd.Admin), named("rex", flightd.Read)
	ann.send("POST", "namespaces", object{"namespace": []string{"ns"}}, 200)
	ann.create("ns", "t")
	appendForged := func(by *catalog, n int64) {
		body := c.appendCommit(c.load("ns", "t"), n)
		body["updates"].([]any)[0].(object)["snapshot"].(*table.Snapshot).Summary.Properties[statecommit.UserProperty] = "bob"
		by.send("POST", "namespaces/ns/tables/t", body, 200)
	}
	appendForged(ann, 1)
	appendForged(c.withToken(flightd.Admin), 2) // this token has no name
	c.put("ns", "t", nil, 3)
	rex.send("GET", "namespaces/ns/tables/t", nil, 200) // folds the row, which is not rex's
	c.put("ns", "t", nil, 4)
	bySpec := object{"source-id": 1, "field-id": 1000, "name": "n_bucket", "transform": "bucket[4]"}
	ann.send("POST", "namespaces/ns/tables/t", object{"requirements": []any{}, "updates": []object{ // folds the row, which is not ann's
		{"action": "add-spec", "spec": object{"spec-id": 1, "fields": []object{bySpec}}}, {"action": "set-default-spec", "spec-id": -1},
	}}, 200)
	c.put("ns", "t", nil, 5)
	asCat := statecommit.WithCaller(t.Context(), "cat", true)
	must.Get(c.store.Bucket("ns").Table("t").DeleteRows(asCat, must.Get(filter.Parse("n = 1"))(t)))(t)
	users := func(ctx context.Context) (names []string) {
		for _, v := range must.Get(c.store.Bucket("ns").Table("t").Versions(ctx))(t) {
			names = append(names, v.User)
		}
		return names
	}
	if got, want := users(asCat), []string{"ann", "", "", "", "", "cat"}; !slices.Equal(got, want) {
		t.Errorf("the versions name %q, want %q", got, want)
	}
	if got := strings.Join(users(statecommit.WithCaller(t.Context(), "rex", false)), ""); got != "" {
		t.Errorf("a reader learned the names %q", got)
	}
	for _, query := range []string{"", "?snapshots=refs"} {
		ann.send("GET", "namespaces/ns/tables/t"+query, nil, 200, `"partd.user":"cat"`)
		if answer, _ := rex.send("GET", "namespaces/ns/tables/t"+query, nil, 200); strings.Contains(fmt.Sprint(answer), "partd.user") {
			t.Errorf("GET t%s shows users to a reader: %v", query, answer)
		}
	}
}
