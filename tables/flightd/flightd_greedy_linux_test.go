//go:build cgo && linux

package flightd

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

const (
	greedyMemory  = 1 << 30
	attackTimeout = 20 * time.Second // how long an attacker waits

	// docs/security.md promises these limits on the memory that --memory does not include: of the idle server, of a
	// connection, of a process that runs no statement, and of a process in addition to its statement's memory.
	idleServerMemory  = 160 << 20
	connectionMemory  = 96 << 10
	serverOverhead    = idleServerMemory + serving.DefaultConnections*connectionMemory
	newProcessMemory  = 48 << 20
	soleProcessMemory = 64 << 20 // limit for the only process: it shares the program's pages only with the server, so it is charged half of them
	processOverhead   = newProcessMemory + 80<<20 + 2*8<<20
)

// greedyServer is a running server, with its HTTP address.
type greedyServer struct {
	*procs.Server
	program, http string
}

// serveGreedy builds partd-tables and starts a server.
func serveGreedy(t *testing.T) *greedyServer {
	t.Helper()
	return (&greedyServer{program: tabletest.Program(t)}).start(t)
}

// start starts another server of the program, in a new directory.
func (s *greedyServer) start(t *testing.T) *greedyServer {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	must.Do(t, os.WriteFile(secret, testSecret, 0o600))
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	web := l.Addr().String()
	_ = l.Close()
	p := must.Get(procs.StartServer(t.Context(), exec.Command(s.program, "serve", "--listen", "grpc://127.0.0.1:0", "--http", web, "--dir", filepath.Join(dir, "tables"),
		"--secret-file", secret, "--insecure", "--memory", "1GiB", "--drain-timeout", "5s"), 1))(t)
	return &greedyServer{p, s.program, web}
}

// usage is the server's use of memory and processes.
type usage struct {
	server, processes int64 // in bytes; memory shared between processes counts once
	children          int
	metrics           map[string]float64
}

// memory returns the server's usage, without its metrics.
func (s *greedyServer) memory() (u usage) {
	pids := procs.Children(s.Pid())
	u.children = len(pids)
	u.server, _, _ = procs.Memory(s.Pid())
	for _, pid := range pids {
		u.processes += proportionalMemory(pid)
	}
	return u
}

// proportionalMemory returns the memory of a process, including its share of shared memory.
func proportionalMemory(pid int) (n int64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)) // fails if the process has ended
	if _, rest, ok := strings.Cut(string(b), "\nPss:"); ok {
		_, _ = fmt.Sscan(rest, &n)
	}
	return n << 10
}

// usageWithMetrics returns the server's usage, including its own metrics.
func (s *greedyServer) usageWithMetrics() (usage, error) {
	u := s.memory()
	response, err := (&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + s.http + "/metrics")
	if err != nil {
		return u, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	u.metrics = map[string]float64{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name = strings.TrimPrefix(name, "partd_tables_"); strings.HasSuffix(name, "_running") || strings.HasSuffix(name, "_waiting") ||
			slices.Contains([]string{"connections", "message_bytes", "go_goroutines", "process_open_fds"}, name) {
			u.metrics[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	return u, err
}

func (u usage) String() string {
	return fmt.Sprintf("server %d MiB, %d processes %d MiB, %v", u.server>>20, u.children, u.processes>>20, u.metrics)
}

// TestGreedyClients checks that during all attacks at once, an honest client is served, and the server and its
// processes stay within their memory limits. The attackers have no token, the right to read, or a token for one
// bucket. After the attacks, the server and its processes must release all resources.
func TestGreedyClients(t *testing.T) {
	duration := envDuration(t, "PARTD_GREEDY", 3*time.Second) // use 10m for a full run
	s := serveGreedy(t)
	_, address := s.Address()
	honest := newHonest(t, address, s.http)
	honest.round(t.Context()) // starts the processes that other clients also use
	idleServer := s.start(t)  // its times show how busy the machine is
	_, idleAddress := idleServer.Address()
	idleClient := newHonest(t, idleAddress, idleServer.http)
	idleClient.round(t.Context())
	before := must.Get(s.usageWithMetrics())(t)
	if before.server > idleServerMemory || before.processes > max(soleProcessMemory, int64(before.children*newProcessMemory)) {
		t.Errorf("before the attack, the server uses more than docs/security.md promises: %v", before)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	attackCounts, wg := attack(ctx, t, s)
	honest.reset()
	idleClient.reset()
	wg.Go(func() {
		for ctx.Err() == nil {
			idleClient.round(ctx)
		}
	})
	var peak usage
	rounds := 0
	for end := time.Now().Add(duration); (rounds < 3 || time.Now().Before(end)) && !s.HasExited(); rounds++ {
		honest.round(ctx)
		if current := s.memory(); current.server+current.processes > peak.server+peak.processes {
			peak = current
		}
	}
	cancel()
	wg.Wait()
	for name, n := range attackCounts {
		t.Logf("%6d × %s", n.Load(), name)
		if n.Load() == 0 {
			t.Errorf("the attack %q never started", name)
		}
	}
	honest.report(t, idleClient)
	must.Check(t, idleServer.Stop(time.Minute))
	t.Logf("before: %v; at peak: %v", before, peak)
	if s.HasExited() {
		t.Fatalf("the server exited: %s", s.Stderr())
	}
	if limit := int64(greedyMemory*5/4 + serverOverhead + peak.children*processOverhead); peak.server+peak.processes > limit {
		t.Errorf("peak memory is %d MiB, want at most %d", (peak.server+peak.processes)>>20, limit>>20)
	}
	s.waitForRelease(t, before)
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	_, wg = attack(ctx, t, s)
	time.Sleep(time.Second) // some attacks have begun
	start := time.Now()
	must.Check(t, s.Stop(time.Minute))
	t.Logf("the server exited %v after SIGTERM", time.Since(start))
	cancel()
	wg.Wait()
}

// waitForRelease waits until the server's usage is back at its level before the attack. The limits leave room for
// memory that Go and spare processes keep, and for a few connections of this test's own clients.
func (s *greedyServer) waitForRelease(t *testing.T, before usage) {
	t.Helper()
	const spares = 4
	var current usage
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if current, err = s.usageWithMetrics(); err != nil {
			continue
		}
		m := current.metrics
		if current.children <= spares && m["queries_running"]+m["queries_waiting"]+m["puts_running"]+m["puts_waiting"] == 0 && m["message_bytes"] < 1<<20 &&
			m["connections"] <= before.metrics["connections"]+5 && m["go_goroutines"] <= before.metrics["go_goroutines"]+40 &&
			m["process_open_fds"] <= before.metrics["process_open_fds"]+40 && current.server < before.server+serverOverhead && current.processes <= spares*processOverhead {
			t.Logf("after the attack: %v", current)
			return
		}
	}
	t.Errorf("a minute after the attack, the server uses %v, but it used %v before: %v", current, before, err)
}

// honestClient makes typical calls, one after the other, and records their durations and errors.
type honestClient struct {
	address, http, token string
	withToken            func(context.Context) context.Context
	flight               flight.Client
	web                  *http.Client

	durations map[string][]time.Duration
	errors    map[string]error
	failures  int
}

const honestHost = "127.0.2.1"

func newHonest(t *testing.T, address, web string) *honestClient {
	t.Helper()
	_, token := withToken(t, testSecret, Admin)
	h := &honestClient{address: address, http: "http://" + web, token: token, flight: clientFrom(t, honestHost, address), web: httpClientFrom(honestHost)}
	h.withToken = withBearer(token)
	h.reset()
	return h
}

// reset forgets the durations and errors of earlier calls.
func (h *honestClient) reset() {
	h.durations, h.errors = map[string][]time.Duration{}, map[string]error{}
}

// round makes each call once.
func (h *honestClient) round(ctx context.Context) {
	for name, do := range map[string]func(context.Context) error{
		"put": func(ctx context.Context) error {
			return putTest(ctx, h.flight, `{"name":"t","mode":"replace"}`, 1, 100)
		},
		"get": func(ctx context.Context) error { return readAll(ctx, h.flight, `{"name":"t"}`, 0) },
		"SELECT": func(ctx context.Context) error {
			return readAll(ctx, h.flight, `{"name":"t","sql":"SELECT count(*) FROM t"}`, 0)
		},
		"health": func(ctx context.Context) error { return h.get(ctx, "/healthz") },
		"page":   func(ctx context.Context) error { return h.get(ctx, "/api/tree") },
		"rows":   func(ctx context.Context) error { return h.get(ctx, "/api/rows?table=t") },
	} {
		if ctx.Err() != nil {
			return
		}
		callCtx, cancel := context.WithTimeout(h.withToken(ctx), time.Minute)
		start := time.Now()
		err := do(callCtx)
		cancel()
		if ctx.Err() != nil {
			return
		}
		h.durations[name] = append(h.durations[name], time.Since(start))
		if err != nil {
			h.errors[name] = err
			h.failures++
		}
	}
}

// get requests a page over HTTP.
func (h *honestClient) get(ctx context.Context, path string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.http+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+h.token)
	r.Header.Set("X-Partd", "1")
	response, err := h.web.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %.200s", response.StatusCode, text)
	}
	return err
}

// report logs how long the calls took, and fails the test if the 99th percentile is over a second. A short run has few
// calls, and other tests use the machine too: its median must be at most ten seconds, which is half of the time for which
// attackers wait, or eight times the 99th percentile on an idle server if that is longer.
func (h *honestClient) report(t *testing.T, idleServer *honestClient) {
	t.Helper()
	percentile := func(durations []time.Duration, percent int) time.Duration {
		slices.Sort(durations)
		return durations[min(len(durations)-1, len(durations)*percent/100)].Round(time.Microsecond)
	}
	long := os.Getenv("PARTD_GREEDY") != ""
	for name, durations := range h.durations {
		idleDurations := idleServer.durations[name]
		if len(idleDurations) == 0 {
			idleDurations = []time.Duration{0}
		}
		t.Logf("%s: %d times, p50 %v, p99 %v, at most %v; on an idle server p50 %v, p99 %v", name, len(durations), percentile(durations, 50), percentile(durations, 99), percentile(durations, 100), percentile(idleDurations, 50), percentile(idleDurations, 99))
		percent, limit := 99, time.Second
		if !long {
			percent, limit = 50, max(attackTimeout/2, 8*percentile(idleDurations, 99))
		}
		if percentile(durations, percent) > limit {
			t.Errorf("%s: the honest client waited %v (p%d), want at most %v", name, percentile(durations, percent), percent, limit)
		}
	}
	for name, err := range h.errors {
		t.Errorf("%s failed for the honest client (%d failed calls in total): %v", name, h.failures, err)
	}
}

// attack runs all attacks until ctx is done, and counts how often each started.
func attack(ctx context.Context, t *testing.T, s *greedyServer) (attackCounts map[string]*atomic.Int64, wg *sync.WaitGroup) {
	t.Helper()
	attackCounts, wg = map[string]*atomic.Int64{}, &sync.WaitGroup{}
	_, address := s.Address()
	for _, a := range attacks(t, address, s.http) {
		n := &atomic.Int64{}
		attackCounts[a.name] = n
		for i := range a.clients {
			wg.Go(func() {
				host := a.hosts[i%len(a.hosts)]
				for ctx.Err() == nil {
					n.Add(1)
					attackCtx, cancel := context.WithTimeout(ctx, attackTimeout)
					a.do(attackCtx, host)
					cancel()
					select {
					case <-ctx.Done():
					case <-time.After(time.Duration(10+rand.IntN(200)) * time.Millisecond):
					}
				}
			})
		}
	}
	return attackCounts, wg
}
