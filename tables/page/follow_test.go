package page

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/flightd"
)

// events connects to the path, and returns a function that returns the text of the next event that is no comment.
func (s *testServer) events(ctx context.Context, path, lastID string) func() string {
	s.t.Helper()
	r := s.request(ctx, http.MethodGet, path, nil)
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	a := must.Get(http.DefaultClient.Do(r))(s.t)
	s.t.Cleanup(func() { _ = a.Body.Close() })
	if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("%s: status %d, headers %v", path, a.StatusCode, a.Header)
	}
	lines := bufio.NewScanner(a.Body)
	return func() string {
		var event []string
		for lines.Scan() {
			switch line := lines.Text(); {
			case line == "" && event != nil:
				return strings.Join(event, "|")
			case line != "" && line[0] != ':':
				event = append(event, line)
			}
		}
		return "end"
	}
}

// TestFollow checks the events of versions, and that a client that connects again continues after the version that it
// names.
func TestFollow(t *testing.T) {
	s := serve(t, flightd.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.putQuery("B", "t", "SELECT unnest([1, 2]) AS x")
	path := "/api/follow?bucket=B&table=t&every=1s"
	next := s.events(ctx, path, "")
	want := func(next func() string, wanted ...string) {
		t.Helper()
		for _, w := range wanted {
			if got := next(); !strings.HasPrefix(got, w) {
				t.Fatalf("the event is %q, want %q", got, w)
			}
		}
	}
	want(next, `data: {"x":1,"_change":"insert","_version":1}`, `data: {"x":2,`, `event: version|id: 1|data: {"version":1,"uuid":"`)
	s.putQuery("B", "t", "SELECT unnest([2, 3]) AS x")
	second := []string{`data: {"x":1,"_change":"delete","_version":2}`, `data: {"x":3,"_change":"insert","_version":2}`, "event: version|id: 2|"}
	rows := map[string]bool{second[0]: true, second[1]: true}
	for range 2 {
		if got := next(); !rows[got] {
			t.Fatalf("the event is %q, want a change of version 2", got)
		}
	}
	want(next, second[2])
	again := s.events(ctx, path+"&since=0", "1")
	for range 2 {
		if got := again(); !rows[got] {
			t.Fatalf("the event is %q, want a change of version 2", got)
		}
	}
	want(again, second[2])
	for query, status := range map[string]int{"&every=0s": 400, "&every=x": 400, "&since=99": 404, "&since=x": 400, "&keys=y": 400, "&uuid=x": 404} {
		s.wantGet("/api/follow?bucket=B&table=t"+query, status)
	}
	must.Do(t, s.store.Bucket("B").Delete(t.Context(), "t"))
	want(next, `event: failed|data: {"error":"`, "end")
}

// TestFollowLimits checks that followers do not count as requests, and that a follower is disconnected when its token
// expires.
func TestFollowLimits(t *testing.T) {
	s := serve(t, flightd.Options{Secret: secret}).withToken(flightd.Admin)
	s.putQuery("B", "t", "SELECT 1 AS x")
	s.withToken(flightd.Read, "A").wantGet("/api/follow?bucket=B&table=t", 403)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 200 { // more than a host's share of requests
		next := s.events(ctx, "/api/follow?bucket=B&table=t&every=1h", "")
		if got := next(); !strings.HasPrefix(got, "data: ") {
			t.Fatalf("the event is %q, want a row", got)
		}
	}
	s.wantGet("/api/table?bucket=B&table=t", 200)
	s.token = must.Get(flightd.NewToken(secret, flightd.Read, "", 3*time.Second))(t)
	next := s.events(ctx, "/api/follow?bucket=B&table=t&every=1s", "")
	next()
	next()
	if got := next(); !strings.HasPrefix(got, "event: failed|data: ") || !strings.Contains(got, "expired") {
		t.Errorf("after the token has expired, the event is %q", got)
	}
}
