package servercli_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/remote"
)

// TestAdmin checks the server's metrics after some requests. docs/operations.md must list exactly
// the existing metrics. Profiles must be served only with --pprof.
func TestAdmin(t *testing.T) {
	p := start(t, "--store", "log:"+t.TempDir(), "--http", "127.0.0.1:0", "--max-bytes", "1GiB", "--min-free", "4KiB")
	admin, ctx, c := adminURL(t, p), boundedContext(t, 0), dialServer(t, p)
	for range 3 {
		must.Do(t, c.Append(ctx, partd.Entry{Key: "k", Value: make([]byte, 1000)}))
	}
	must.Do(t, c.Flush(ctx))
	peer := openPeer(t, p)
	must.Do(t, peer.Ask([]string{"ack"}, "append", "k", "v"))
	must.Do(t, peer.Send("made up"))
	must.Get(peer.Receive())(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := httpGet(t, admin+path); code != 200 || body != "ok\n" {
			t.Errorf("GET %s: status %d, body %s, want 200 and ok", path, code, body)
		}
	}
	if code, _ := httpGet(t, admin+"/debug/pprof/"); code != 404 {
		t.Errorf("GET /debug/pprof/ without --pprof: status %d, want 404", code)
	}
	const failedRequestLine = `partd_requests_total{protocol="python",operation="unknown",result="failed"} 1`
	var body string
	must.Eventually(t, time.Minute, "the failed request is not counted", func() bool { // the server counts it after it has sent the answer
		_, body = httpGet(t, admin+"/metrics")
		return strings.Contains(body, failedRequestLine+"\n")
	})
	for _, line := range []string{
		`partd_requests_total{protocol="go",operation="append",result="ok"} 3`,
		`partd_requests_total{protocol="python",operation="append",result="ok"} 1`,
		failedRequestLine,
		`partd_request_seconds_count{protocol="go",operation="append"} 3`,
		`partd_connections 2`, `partd_sessions 1`, `partd_log_seals_total 1`, `partd_log_segments 1`, `partd_ready 1`,
		fmt.Sprintf(`partd_build_info{version="devel",commit="unknown",goversion=%q} 1`, runtime.Version()), `partd_store_limit_bytes 1.073741824e+09`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("/metrics lacks the line %s", line)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
	page := must.Get(os.ReadFile("../../../docs/operations.md"))(t)
	served, documented := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(body, -1) {
		served[m[1]] = true
	}
	for _, m := range regexp.MustCompile("`(partd_[a-z_]+)").FindAllStringSubmatch(string(page), -1) {
		documented[m[1]] = true
		if !served[m[1]] {
			t.Errorf("docs/operations.md lists the metric %s, which does not exist", m[1])
		}
	}
	for name := range served {
		if !documented[name] {
			t.Errorf("docs/operations.md lacks the metric %s", name)
		}
	}
	stop(t, p)
}

// TestNotReady checks that a server at its limit is not ready, says why, and refuses only appends.
func TestNotReady(t *testing.T) {
	p := start(t, "--store", "log:"+t.TempDir(), "--http", "127.0.0.1:0", "--pprof", "--min-free", "1EiB")
	admin := adminURL(t, p)
	if code, body := httpGet(t, admin+"/readyz"); code != 503 || !strings.Contains(body, "1.0 EiB must stay free") {
		t.Errorf("GET /readyz: status %d, body %s, want 503 and the reason", code, body)
	}
	ctx, c := boundedContext(t, 0), dialServer(t, p)
	must.Fail(t, c.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}), "stay free", "Append at the limit")
	must.Get(c.Get(ctx, "k"))(t)
	must.Do(t, c.Drop(ctx))
	if code, body := httpGet(t, admin+"/metrics"); code != 200 || !strings.Contains(body, "partd_room_refused_total 1\n") || !strings.Contains(body, "partd_ready 0\n") {
		t.Errorf("GET /metrics: status %d, want 200 and metrics that show one refusal and no readiness; body %s", code, body)
	}
	if code, _ := httpGet(t, admin+"/debug/pprof/goroutine"); code != 200 {
		t.Errorf("GET /debug/pprof/goroutine with --pprof: status %d, want 200", code)
	}
	if !strings.Contains(p.Stderr(), "stay free") {
		t.Errorf("the log does not mention the refusal: %s", p.Stderr())
	}
	stop(t, p)
}

// TestNoInodes checks that a server whose disk can have no more files is not ready, and says why.
func TestNoInodes(t *testing.T) {
	disk := vfstest.Mount(t, "tmpfs", 64<<20)
	p := start(t, "--store", "log:"+disk+"/store", "--http", "127.0.0.1:0")
	admin := adminURL(t, p)
	must.Do(t, syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "nr_inodes=200"))
	var err error
	for i := 0; err == nil; i++ {
		err = os.WriteFile(fmt.Sprint(disk, "/", i), nil, 0o600)
	}
	if code, body := httpGet(t, admin+"/readyz"); code != 503 || !strings.Contains(body, "the disk has no free inodes") {
		t.Errorf("GET /readyz without inodes: status %d, body %s, want 503 and the reason; %v", code, body, err)
	}
	must.Do(t, os.Remove(disk+"/0"))
	if code, body := httpGet(t, admin+"/readyz"); code != 200 {
		t.Errorf("GET /readyz with an inode: status %d, body %s, want 200", code, body)
	}
	stop(t, p)
}

// TestHealth checks the exit codes of partd-server health.
func TestHealth(t *testing.T) {
	ready := start(t, "--store", "mem:", "--http", "0.0.0.0:0", "--http-exposed")
	full := start(t, "--store", "log:"+t.TempDir(), "--http", "127.0.0.1:0", "--min-free", "1EiB")
	addressOf := func(url string) string { return strings.TrimPrefix(url, "http://") }
	_, port, _ := strings.Cut(strings.TrimPrefix(adminURL(t, ready), "http://[::]"), ":")
	for _, c := range []struct {
		args  []string
		code  int
		words string
	}{
		{[]string{"--http", "0.0.0.0:" + port}, 0, ""},
		{[]string{"--http", addressOf(adminURL(t, full))}, 1, "must stay free"},
		{[]string{"--http", addressOf(adminURL(t, full)), "--live"}, 0, ""},
		{[]string{"a", "b"}, 2, "b"},
	} {
		code, out, errs := runCommand(t, nil, append([]string{"health"}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.words) || (out == "ok\n") != (code == 0) {
			t.Errorf("health %q = exit code %d, %q, %q, want %d and %q", c.args, code, out, errs, c.code, c.words)
		}
	}
	stop(t, ready)
	stop(t, full)
}

// TestExitOnStdinClose checks that the server exits when its standard input is closed, as when its parent ends.
func TestExitOnStdinClose(t *testing.T) {
	cmd := command("server", "--listen", "tcp://127.0.0.1:0", "--store", "log:"+t.TempDir(), "--exit-on-stdin-close")
	in := must.Get(cmd.StdinPipe())(t)
	p := must.Get(procs.StartServer(t.Context(), cmd, 1))(t)
	t.Cleanup(p.Kill)
	must.Get(fmt.Fprintln(in, "the server ignores this text"))(t)
	ctx, c := boundedContext(t, 0), dialServer(t, p)
	must.Do(t, c.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}))
	must.Do(t, in.Close())
	waitFor(t, p, "msg=ended")
}

// TestAlerts brings servers into states that alerts are for, and checks with the servers' own metrics that these alerts
// fire, and no others. alerts_test.yml also tests the alerts of states that need hours or gigabytes.
func TestAlerts(t *testing.T) {
	t.Parallel()
	const rules = "../../../packaging/monitoring/alerts.yml"
	// check runs begin, and checks the alerts of the resulting state.
	check := func(t *testing.T, p *procs.Server, begin func(), want ...string) {
		t.Helper()
		url := adminURL(t, p) + "/metrics"
		_, before := httpGet(t, url)
		start := time.Now()
		begin()
		time.Sleep(time.Until(start.Add(time.Second)))
		_, after := httpGet(t, url)
		failures := regexp.MustCompile(`(?m)^partd_log_seal_failures_total [1-9]`)
		if failures.MatchString(after) { // depends on when the store seals a segment while the disk is full
			want = append(want, "PartdSealsFail")
		}
		procs.CheckAlerts(t, rules, "partd-server", before, after, time.Since(start), want...)
	}
	// fill appends until the server refuses even small values.
	fill := func(t *testing.T, p *procs.Server) {
		c := must.Get(remote.Dial(t.Context(), p.URL(), nil))(t)
		defer c.Close() //nolint:errcheck // only cleanup
		for size := 100_000; size > 0; {
			err := c.Append(t.Context(), partd.Entry{Key: "k", Value: make([]byte, size)})
			if errors.Is(err, syscall.ENOSPC) {
				size /= 10
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	// connect opens n connections, sends text, and waits until the server has read it.
	connect := func(t *testing.T, p *procs.Server, n int, text string) {
		network, address := p.Address()
		for range n {
			conn := must.Get(net.Dial(network, address))(t)
			_, _ = io.WriteString(conn, text)
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, _ = conn.Read(make([]byte, 100))
			_ = conn.Close()
		}
	}
	t.Run("healthy, then dead", func(t *testing.T) {
		p := start(t, "--store", "log:"+t.TempDir(), "--http", "127.0.0.1:0")
		check(t, p, func() {
			c := dialServer(t, p)
			for range 100 {
				must.Do(t, c.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("v")}))
			}
			_, _ = c.Get(t.Context(), strings.Repeat("k", 1<<20)) // a fault of the client
		})
		_, before := httpGet(t, adminURL(t, p)+"/metrics")
		p.Kill()
		procs.CheckAlerts(t, rules, "partd-server", before, "", time.Second, "PartdDown")
	})
	t.Run("full", func(t *testing.T) {
		disk := vfstest.Mount(t, "tmpfs", 40<<20)
		p := start(t, "--store", "log:"+disk+"/data", "--memory", "32MiB", "--http", "127.0.0.1:0")
		check(t, p, func() {
			fill(t, p)
			for range 5 { // the store frees some space in the background
				vfstest.Fill(t, disk)
				time.Sleep(500 * time.Millisecond)
			}
		}, "PartdNotReady", "PartdRefusesWriters", "PartdStoreErrors", "PartdDiskFullWithinADay")
	})
	t.Run("wrong peers", func(t *testing.T) {
		dir := t.TempDir()
		addToken(t, dir, dir+"/users", "writer", "--rights", "append")
		p := start(t, "--store", "mem:", "--http", "127.0.0.1:0", "--tokens-file", dir+"/users", "--insecure")
		check(t, p, func() {
			connect(t, p, 20, "GET / HTTP/1.1\r\n\r\n")
			for range 5 {
				if c, err := remote.Dial(t.Context(), p.URL(), &remote.ClientOptions{Token: "writer.wrong"}); err == nil {
					_ = c.Close()
				}
			}
		}, "PartdFaultyConnections", "PartdRefusedCredentials")
	})
	t.Run("TLS", func(t *testing.T) {
		dir := t.TempDir()
		ca := must.Get(nettest.NewAuthority(dir, "authority"))(t)
		pair := must.Get(ca.Issue("server", time.Hour, "127.0.0.1"))(t)
		p := startChild(t, "server", "--listen", "tls://127.0.0.1:0", "--store", "mem:", "--tls-cert", pair.Cert, "--tls-key", pair.Key, "--http", "127.0.0.1:0", "--insecure")
		check(t, p, func() {
			if c, err := tls.Dial("tcp", strings.TrimPrefix(p.URL(), "tls://"), &tls.Config{}); err == nil { // does not trust the authority
				_ = c.Close()
			}
		}, "PartdTLSFailures")
	})
	t.Run("too many connections", func(t *testing.T) {
		p := start(t, "--store", "mem:", "--http", "127.0.0.1:0", "--max-connections", "4")
		url := adminURL(t, p) + "/metrics" // later, the log may have forgotten the address
		check(t, p, func() {
			network, address := p.Address()
			waitFor := func(metric string, least int) (count int) {
				t.Helper()
				must.Eventually(t, time.Minute, "the server has not counted the connections", func() bool {
					_, text := httpGet(t, url)
					_, rest, _ := strings.Cut(text, "\n"+metric+" ")
					_, _ = fmt.Sscan(rest, &count)
					return count >= least
				})
				return count
			}
			refused, faulty := 0, 0
			for range 5 { // enough for the alert even if a busy machine needs 20 seconds
				var conns []net.Conn
				for range 12 {
					conns = append(conns, must.Get(net.Dial(network, address))(t))
				}
				refused = waitFor("partd_connections_refused_total", refused+8)
				for _, conn := range conns {
					_ = conn.Close()
				}
				faulty = waitFor("partd_connections_faulty_total", faulty+1) // more are refused while the server still has connections of the last round
			}
		}, "PartdConnectionsRefused", "PartdFaultyConnections")
	})
}
