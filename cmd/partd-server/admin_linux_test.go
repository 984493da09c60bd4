package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/serverproc"
)

// The HTTP metrics count what was done. Every metric is in docs/operations.md, and
// every one there exists. Profiles need --pprof.
func TestAdmin(t *testing.T) {
	p := start(t, "--store", "log:"+t.TempDir(), "--http", "127.0.0.1:0", "--max-bytes", "1GiB", "--min-free", "4KiB")
	admin, ctx, c := adminURL(t, p), boundedContext(t, 0), dialServer(t, p)
	for range 3 {
		if err := c.Append(ctx, partd.Entry{Key: "k", Value: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	peer := openPeer(t, p)
	if err := peer.Ask([]string{"ack"}, "append", "k", "v"); err != nil {
		t.Fatal(err)
	}
	if err := peer.Send("made up"); err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Receive(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := httpGet(t, admin+path); code != 200 || body != "ok\n" {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _ := httpGet(t, admin+"/debug/pprof/"); code != 404 {
		t.Errorf("profiles are served without --pprof: %d", code)
	}
	const last = `partd_requests_total{protocol="python",operation="unknown",result="failed"} 1`
	var body string
	for range 1000 { // a request is counted after its answer was received
		if _, body = httpGet(t, admin+"/metrics"); strings.Contains(body, last+"\n") {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	for _, line := range []string{
		`partd_requests_total{protocol="go",operation="append",result="ok"} 3`,
		`partd_requests_total{protocol="python",operation="append",result="ok"} 1`,
		last,
		`partd_request_seconds_count{protocol="go",operation="append"} 3`,
		`partd_connections 2`, `partd_sessions 1`, `partd_log_seals_total 1`, `partd_log_segments 1`, `partd_ready 1`, `partd_store_limit_bytes 1.073741824e+09`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("missing in /metrics: %s", line)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	served, documented := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(body, -1) {
		served[m[1]] = true
	}
	for _, m := range regexp.MustCompile("`(partd_[a-z_]+)").FindAllStringSubmatch(string(page), -1) {
		documented[m[1]] = true
		if !served[m[1]] {
			t.Errorf("docs/operations.md has %s, which does not exist", m[1])
		}
	}
	for name := range served {
		if !documented[name] {
			t.Errorf("docs/operations.md lacks %s", name)
		}
	}
	stop(t, p)
}

// A server at its limit is not ready, says why, and refuses only appends.
func TestNotReady(t *testing.T) {
	p := start(t, "--store", "log:"+t.TempDir(), "--http", "127.0.0.1:0", "--pprof", "--min-free", "1EiB")
	admin := adminURL(t, p)
	if code, body := httpGet(t, admin+"/readyz"); code != 503 || !strings.Contains(body, "1.0 EiB must stay free") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	ctx, c := boundedContext(t, 0), dialServer(t, p)
	if err := c.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}); err == nil || !strings.Contains(err.Error(), "stay free") {
		t.Errorf("append: %v", err)
	}
	if _, err := c.Get(ctx, "k"); err != nil {
		t.Error(err)
	}
	if err := c.Drop(ctx); err != nil {
		t.Error(err)
	}
	if code, body := httpGet(t, admin+"/metrics"); code != 200 || !strings.Contains(body, "partd_room_refused_total 1\n") || !strings.Contains(body, "partd_ready 0\n") {
		t.Errorf("/metrics: %d %s", code, body)
	}
	if code, _ := httpGet(t, admin+"/debug/pprof/goroutine"); code != 200 {
		t.Errorf("with --pprof: %d", code)
	}
	if !strings.Contains(p.Stderr(), "stay free") {
		t.Errorf("the log does not have the refusal: %s", p.Stderr())
	}
	stop(t, p)
}

// A server that a program started for itself ends with the program.
func TestExitOnStdinClose(t *testing.T) {
	cmd := command("server", "--listen", "tcp://127.0.0.1:0", "--store", "log:"+t.TempDir(), "--exit-on-stdin-close")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := serverproc.Start(t.Context(), cmd, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	if _, err := fmt.Fprintln(in, "what comes there means nothing"); err != nil {
		t.Fatal(err)
	}
	ctx, c := boundedContext(t, 0), dialServer(t, p)
	if err := c.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 1000 && !strings.Contains(p.Stderr(), "msg=ended"); i++ {
		time.Sleep(10 * time.Millisecond)
	}
	if !strings.Contains(p.Stderr(), "msg=ended") {
		t.Errorf("the server did not end: %s", p.Stderr())
	}
}
