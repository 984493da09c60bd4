package servercli_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"regexp"
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
			_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
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
		check(t, p, func() {
			network, address := p.Address()
			for range 12 {
				conn := must.Get(net.Dial(network, address))(t)
				defer conn.Close()
			}
			time.Sleep(300 * time.Millisecond)
		}, "PartdConnectionsRefused", "PartdFaultyConnections")
	})
}
