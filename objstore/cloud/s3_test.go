package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/stores"
)

// startGateway starts a gateway, or skips the test if none is installed.
func startGateway(t testing.TB) *gateway { return &gateway{procs.StartGateway(t)} }

type gateway struct{ *procs.Gateway }

func (g *gateway) url(prefix, options string) string {
	return fmt.Sprintf("s3://bucket/%s?endpoint=http://%s&memory=16MiB%s", prefix, g.Addr, options)
}

func openURL(t testing.TB, url string) partd.Partd {
	t.Helper()
	s := must.Get(stores.NewSet(Schemes()...).Open(t.Context(), url, nil))(t)
	return s
}

func TestGatewayKeepsPromises(t *testing.T) {
	g := startGateway(t)
	urls := map[partd.Partd]string{}
	openTracked := func(t *testing.T, url string) partd.Partd {
		s := openURL(t, url)
		urls[s] = url
		return s
	}
	opts := &partdtest.Options{
		Require:     []partdtest.Ability{partdtest.CanSet, partdtest.CanDelete, partdtest.CanList, partdtest.CanScan, partdtest.CanFlush, partdtest.CanClose},
		MachineRuns: 3, Pieces: 50,
		Reopen: func(t *testing.T, s partd.Partd) partd.Partd {
			must.Do(t, partd.Close(t.Context(), s))
			return openTracked(t, urls[s])
		},
	}
	n := 0
	newStore := func(t *testing.T) partd.Partd {
		n++
		return openTracked(t, g.url(fmt.Sprint("store", n), ""))
	}
	if os.Getenv("PARTD_REQUIRE_ALL") != "" {
		partdtest.Run(t, newStore, opts)
	} else {
		partdtest.StateMachine(t, newStore, opts)
	}
}

// checkBucket checks that a driver implements objstore.Bucket correctly.
func checkBucket(t *testing.T, b objstore.Bucket) {
	t.Helper()
	ctx := t.Context()
	wins := make(chan int, 8)
	must.Concurrently(8, func(i int) {
		for {
			err := b.Create(ctx, "dir/one", []byte{byte('0' + i), 'b', 'c'})
			if err == nil {
				wins <- i
			} else if !errors.Is(err, os.ErrExist) {
				continue // 409: try again
			}
			return
		}
	})
	if len(wins) != 1 {
		t.Fatalf("%d creators of one object succeeded, want 1", len(wins))
	}
	first := fmt.Sprint(<-wins)
	for _, c := range []struct {
		off, length int64
		want        string
	}{{0, -1, first + "bc"}, {1, -1, "bc"}, {0, 1, first}, {1, 1, "b"}, {2, 10, "c"}, {3, 1, ""}, {10, 5, ""}, {0, 0, ""}} {
		r, err := b.ReadRange(ctx, "dir/one", c.off, c.length)
		if err != nil {
			t.Fatalf("ReadRange(%d, %d): %v", c.off, c.length, err)
		}
		got := make([]byte, 20)
		n := 0
		for err == nil {
			var m int
			m, err = r.Read(got[n:])
			n += m
		}
		if string(got[:n]) != c.want {
			t.Errorf("ReadRange(%d, %d) = %q, want %q", c.off, c.length, got[:n], c.want)
		}
		must.Check(t, r.Close())
	}
	must.Fail(t, must.Err(b.ReadRange(ctx, "dir/none", 0, 5)), os.ErrNotExist, "ReadRange() of a missing object")
	for _, name := range []string{"dir/two", "dir/three", "other"} {
		must.Do(t, b.Create(ctx, name, nil))
	}
	list := func(prefix, after string) (names []string) {
		for o, err := range b.List(ctx, prefix, after) {
			must.Do(t, err)
			names = append(names, o.Name)
			if d := time.Since(o.Modified); d > time.Hour || d < -time.Hour {
				t.Errorf("listed object %+v has a wrong modification time", o)
			}
		}
		return names
	}
	if names := fmt.Sprint(list("dir/", "")); names != "[dir/one dir/three dir/two]" {
		t.Errorf("List() = %s, want the three objects below dir/", names)
	}
	if names := fmt.Sprint(list("dir/", "dir/one")); names != "[dir/three dir/two]" {
		t.Errorf("List() after dir/one = %s, want the other two objects below dir/", names)
	}
	for range 2 {
		must.Check(t, b.Delete(ctx, "dir/two"))
	}
	if names := fmt.Sprint(list("", "")); names != "[dir/one dir/three other]" {
		t.Errorf("List() after Delete = %s, want the three remaining objects", names)
	}
}

func TestS3(t *testing.T) {
	g := startGateway(t)
	for _, prefix := range []string{"a/b/", "c/"} {
		b := must.Get(openS3("bucket", prefix, "us-east-1", "http://"+g.Addr))(t)
		checkBucket(t, b)
	}
	missingBucket, err := openS3("no-such-bucket", "", "us-east-1", "http://"+g.Addr)
	must.Do(t, err)
	must.Fail(t, missingBucket.Create(t.Context(), "x", nil), objstore.ErrRefused, "Create() in a missing bucket")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	_, err = stores.NewSet(Schemes()...).Open(t.Context(), g.url("x", ""), nil)
	must.Fail(t, err, objstore.ErrRefused, "Open() with a wrong secret key")
}

// TestVerifyOverGateway checks that Check detects a flipped bit in an object's file.
func TestVerifyOverGateway(t *testing.T) {
	g := startGateway(t)
	s := openURL(t, g.url("v", ""))
	for i := range 3000 {
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(i), Value: make([]byte, 200)}))
	}
	must.Do(t, partd.Flush(t.Context(), s))
	must.Get(s.(partd.Checker).Check(t.Context()))(t)
	files, err := filepath.Glob(filepath.Join(g.Dir, "bucket/v/seg/*/*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("found the segments %q (error %v), want one", files, err)
	}
	b := must.Get(os.ReadFile(files[0]))(t)
	b[len(b)/2] ^= 1
	f, err := os.OpenFile(files[0], os.O_WRONLY, 0)
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Close())
	}
	must.Do(t, err)
	if _, err := s.(partd.Checker).Check(t.Context()); !errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("Check() error = %v, want a CorruptError", err)
	}
	must.Check(t, partd.Close(context.Background(), s))
}

// TestDeleteOfMissing checks that deleting a missing object succeeds, because a gateway such as versitygw answers
// 404 if another client deletes the object at the same time. A missing bucket must be an error.
func TestDeleteOfMissing(t *testing.T) {
	code := "NoSuchKey"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>none</Message></Error>", code)
	}))
	defer s.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "user")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secretsecret")
	bucket := must.Get(OpenBucket(t.Context(), "s3://bucket/jobs?endpoint="+s.URL))(t)
	if err := bucket.Delete(t.Context(), "segment"); err != nil {
		t.Errorf("Delete() of a missing object: error = %v, want none", err)
	}
	code = "NoSuchBucket"
	must.Fail(t, bucket.Delete(t.Context(), "segment"), objstore.ErrRefused, "Delete() in a missing bucket")
}

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
