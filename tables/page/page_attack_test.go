package page

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/tables/flightd"
)

// TestSlowBody checks that a request whose body arrives very slowly ends at the call's time limit.
func TestSlowBody(t *testing.T) {
	s := serve(t, flightd.Options{Puts: 1, CallTimeout: 3 * time.Second})
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /api/put?table=t&format=csv HTTP/1.1\r\nHost: localhost\r\nX-Partd: 1\r\nContent-Length: 1000000\r\n\r\nx\n"); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			if _, err := io.WriteString(conn, "1\n"); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	answer := make([]byte, 1000)
	n, err := io.ReadAtLeast(conn, answer, 12)
	if err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 503") {
		t.Errorf("got response %q, error %v, want status 503", answer[:n], err)
	}
}

// TestErrorsHidePaths checks that no error reveals the paths of the server's files.
func TestErrorsHidePaths(t *testing.T) {
	dir := t.TempDir()
	s := serveDir(t, dir, flightd.Options{})
	s.putQuery("", "t", "SELECT i AS x FROM range(10) x(i)")
	broken := 0
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".parquet") {
			return err
		}
		broken++
		return os.WriteFile(path, []byte("broken"), 0o600)
	}); err != nil || broken == 0 {
		t.Fatalf("overwrote %d files, want at least one; error: %v", broken, err)
	}
	checkNoPath := func(a *http.Response, text string) {
		if s.expect(a, text, a.StatusCode); a.StatusCode == 200 || strings.Contains(text, dir) || strings.Contains(text, os.TempDir()) {
			t.Errorf("%s: got %d %s, want an error without paths", a.Request.URL, a.StatusCode, text)
		}
	}
	for _, path := range []string{"rows?table=t", "rows?table=t&sort=x&filter=x>1", "profile?table=t&column=x", "download?format=csv&table=t", "download?format=csv&sql=FROM+t"} {
		checkNoPath(s.get("/api/" + path))
	}
	for _, action := range []string{`{"action": "clean", "source": "t", "where": "x > 1"}`, `{"action": "delete-rows", "table": "t", "where": "x > 1"}`} {
		checkNoPath(s.post("/api/action", action))
	}
	t.Setenv("TMPDIR", filepath.Join(dir, "nowhere"))
	checkNoPath(s.post("/api/put?table=v&format=csv", "x\n1\n"))
}

// TestVolatileCountsNotCached checks that a row count is not cached if it can change while the table stays the same.
func TestVolatileCountsNotCached(t *testing.T) {
	for filter, want := range map[string]bool{"x > CURRENT_TIMESTAMP": true, "x IN (FROM u)": true, "x < localtimestamp": true, "x > 7 AND sym = 'A'": false} {
		if volatileFilter.MatchString(filter) != want {
			t.Errorf("volatileFilter matches %q: %v, want %v", filter, !want, want)
		}
	}
}

// TestHeaders checks the headers that prevent caches from storing data, and other sites from showing the page in a
// frame.
func TestHeaders(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("", "t", "SELECT 1 AS x")
	for _, path := range []string{"/api/session", "/api/tree", "/api/rows?table=t", "/api/download?format=csv&table=t", "/api/nothing", "/"} {
		a, _ := s.get(path)
		if cache := a.Header.Get("Cache-Control"); cache != "no-store" && path != "/" {
			t.Errorf("GET %s: Cache-Control = %q, want no-store", path, cache)
		}
		policy := a.Header.Get("Content-Security-Policy")
		for _, w := range []string{"default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(policy, w) {
				t.Errorf("GET %s: Content-Security-Policy = %q, want it to contain %q", path, policy, w)
			}
		}
	}
}
