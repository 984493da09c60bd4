package cloud

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestLend checks that issued credentials belong to the role, expire, and are restricted to one location.
func TestLend(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "own-id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "own-secret")
	var requests []string
	answer := `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>lent-%d</AccessKeyId>` +
		`<SecretAccessKey>lent-secret</SecretAccessKey><Expiration>` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `</Expiration><SessionToken>session</SessionToken></Credentials></AssumeRoleResult></AssumeRoleResponse>`
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("RoleArn") != "arn:aws:iam::1:role/reader" || !strings.Contains(r.Header.Get("Authorization"), "own-id") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		requests = append(requests, r.FormValue("Policy"))
		fmt.Fprintf(w, answer, len(requests))
	}))
	defer sts.Close()
	l := must.Get(NewLender("s3://bucket/house?region=eu-central-1&endpoint="+sts.URL, "arn:aws:iam::1:role/reader"))(t)
	if s := l.Settings(); s["s3.region"] != "eu-central-1" || s["s3.endpoint"] != sts.URL || len(s) != 4 {
		t.Errorf("Settings() = %v, want the region, the endpoint and two more settings", s)
	}
	lend := func(location string, write bool, id string) {
		t.Helper()
		k, err := l.Lend(t.Context(), location, write)
		if err != nil || k["s3.access-key-id"] != id || k["s3.session-token"] != "session" || k["s3.session-token-expires-at-ms"] == "" {
			t.Errorf("Lend(%s, %v) = %v, %v; want temporary credentials with the ID %s", location, write, k, err, id)
		}
		if text := fmt.Sprint(k); strings.Contains(text, "own-") {
			t.Errorf("Lend(%s, %v) returned the program's own credentials: %s", location, write, text)
		}
	}
	lend("s3://bucket/house/data/a", false, "lent-1")
	lend("s3://bucket/house/data/a", true, "lent-2")
	lend("s3://bucket/house/data/b", true, "lent-3")
	lend("s3://bucket/house/data/a", false, "lent-1")
	for i, canWrite := range []bool{false, true, true} {
		var policy struct {
			Statement []struct {
				Action   []string
				Resource string
			}
		}
		must.Do(t, json.Unmarshal([]byte(requests[i]), &policy))
		first := policy.Statement[0]
		if strings.Contains(requests[i], "PutObject") != canWrite || strings.Contains(requests[i], "Delete") || first.Resource != "arn:aws:s3:::bucket/house/data/"+[]string{"a", "a", "b"}[i]+"/*" {
			t.Errorf("the policy of request %d is wrong: %s", i, requests[i])
		}
	}
	for _, location := range []string{"s3://other/house/data/a", "s3://bucket2/x", "s3://bucket/*", "file:///x"} {
		if k, err := l.Lend(t.Context(), location, false); err == nil {
			t.Errorf("Lend(%s) = %v, want an error because the location is not in the bucket", location, k)
		}
	}
	l.Role = "another"
	if k, err := l.Lend(t.Context(), "s3://bucket/house/data/c", false); err == nil {
		t.Errorf("Lend() for a forbidden role = %v, want an error", k)
	}
	answer = strings.Replace(answer, "<SessionToken>session</SessionToken>", "", 1)
	l.Role = "arn:aws:iam::1:role/reader"
	if k, err := l.Lend(t.Context(), "s3://bucket/house/data/d", false); err == nil {
		t.Errorf("Lend() = %v, want an error because the credentials have no session token", k)
	}
	if l, err := NewLender("gs://bucket", ""); l != nil || err != nil {
		t.Errorf("NewLender(gs://bucket) = %v, %v; want nil, nil", l, err)
	}
}
