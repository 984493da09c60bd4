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

	"github.com/go-partd/partd/internal/testutil/serverproc"
)

// greedyFor is for how long TestGreedyClients runs: PARTD_GREEDY=10m for the whole.
func greedyFor(t *testing.T) time.Duration {
	s := os.Getenv("PARTD_GREEDY")
	if s == "" {
		return 6 * time.Second
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("PARTD_GREEDY=%q is no duration: %v", s, err)
	}
	return d
}

const (
	greedyMemory = 1 << 30

	// What docs/security.md says that is taken beside --memory: by the server with nothing
	// under way and by each connection, by a process to begin with and beside the memory of
	// its statement.
	atRest        = 160 << 20
	connectionHas = 96 << 10
	fixedServer   = atRest + DefaultConnections*connectionHas
	processBegins = 48 << 20
	processAlone  = 64 << 20 // it shares the program with the server and with nobody else
	fixedProcess  = processBegins + 80<<20 + 2*8<<20
)

// greedyServer is the program with its address of HTTP.
type greedyServer struct {
	*serverproc.Process
	program, http string
}

func serveGreedy(t *testing.T) *greedyServer {
	t.Helper()
	program := filepath.Join(t.TempDir(), "partd-tables")
	build := exec.Command("go", "build", "-o", program, "../cmd/partd-tables")
	build.Env = append(os.Environ(), "GOWORK=off")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatal(err, string(said))
	}
	return (&greedyServer{program: program}).again(t)
}

// again starts the program with a directory of its own.
func (s *greedyServer) again(t *testing.T) *greedyServer {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, strangersSecret, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := l.Addr().String()
	_ = l.Close()
	p, err := serverproc.Start(t.Context(), exec.Command(s.program, "serve", "--listen", "grpc://127.0.0.1:0", "--http", web, "--dir", filepath.Join(dir, "tables"),
		"--secret-file", secret, "--insecure", "--memory", "1GiB", "--drain-timeout", "5s"), 1)
	if err != nil {
		t.Fatal(err)
	}
	return &greedyServer{p, s.program, web}
}

// children are the processes that the server has started.
func (s *greedyServer) children() (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.Pid()))
	for _, path := range lists {
		b, _ := os.ReadFile(path) // a thread may have ended
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// held is what the server has.
type held struct {
	server, processes int64 // bytes; what processes share counts once
	children          int
	metrics           map[string]float64
}

func (s *greedyServer) memory() (h held) {
	pids := s.children()
	h.children = len(pids)
	h.server, _, _ = serverproc.Memory(s.Pid())
	for _, pid := range pids {
		h.processes += proportional(pid)
	}
	return h
}

// proportional is the memory of a process; of what it shares, its part.
func proportional(pid int) (n int64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)) // it may have ended
	if _, rest, ok := strings.Cut(string(b), "\nPss:"); ok {
		_, _ = fmt.Sscan(rest, &n)
	}
	return n << 10
}

// holding is memory with the server's own figures.
func (s *greedyServer) holding() (held, error) {
	h := s.memory()
	a, err := (&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + s.http + "/metrics")
	if err != nil {
		return h, err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	h.metrics = map[string]float64{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name = strings.TrimPrefix(name, "partd_tables_"); strings.HasSuffix(name, "_running") || strings.HasSuffix(name, "_waiting") ||
			slices.Contains([]string{"connections", "message_bytes", "go_goroutines", "process_open_fds"}, name) {
			h.metrics[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	return h, err
}

func (h held) String() string {
	return fmt.Sprintf("server %d MiB, %d processes %d MiB, %v", h.server>>20, h.children, h.processes>>20, h.metrics)
}

// TestGreedyClients lets all who attacked the server do so at once: strangers, clients
// whose token allows reading, and one with a token for a bucket. An honest client is
// served all the while. The server and its processes stay within their
// memory, and once the others have gone everything is given back.
func TestGreedyClients(t *testing.T) {
	duration := greedyFor(t)
	s := serveGreedy(t)
	_, address := s.Address()
	honest := newHonest(t, address, s.http)
	honest.round(t.Context()) // begins what others read
	alone := s.again(t)       // tells what the machine can do meanwhile
	_, quiet := alone.Address()
	elsewhere := newHonest(t, quiet, alone.http)
	elsewhere.round(t.Context())
	before, err := s.holding()
	if err != nil {
		t.Fatal(err)
	}
	if before.server > atRest || before.processes > max(processAlone, int64(before.children*processBegins)) {
		t.Errorf("before the attack: %v", before)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	begun, wg := attack(ctx, t, s)
	honest.forget()
	elsewhere.forget()
	wg.Go(func() {
		for ctx.Err() == nil {
			elsewhere.round(ctx)
		}
	})
	var most held
	for end := time.Now().Add(duration); time.Now().Before(end) && !s.Ended(); {
		honest.round(ctx)
		if now := s.memory(); now.server+now.processes > most.server+most.processes {
			most = now
		}
	}
	leave()
	wg.Wait()
	for name, n := range begun {
		t.Logf("%6d × %s", n.Load(), name)
		if n.Load() == 0 {
			t.Errorf("%s: nobody did", name)
		}
	}
	honest.tell(t, elsewhere)
	if err := alone.Stop(10 * time.Second); err != nil {
		t.Error(err)
	}
	t.Logf("before: %v; at the most: %v", before, most)
	if s.Ended() {
		t.Fatalf("the server has ended: %s", s.Stderr())
	}
	if limit := int64(greedyMemory*5/4 + fixedServer + most.children*fixedProcess); most.server+most.processes > limit {
		t.Errorf("%d MiB are more than %d", (most.server+most.processes)>>20, limit>>20)
	}
	s.givesBack(t, before)
	ctx, leave = context.WithCancel(t.Context())
	defer leave()
	_, wg = attack(ctx, t, s)
	time.Sleep(time.Second)
	began := time.Now()
	if err := s.Stop(10 * time.Second); err != nil {
		t.Error(err)
	}
	t.Logf("it ended %v after SIGTERM", time.Since(began))
	leave()
	wg.Wait()
}

// givesBack waits until the server has what it had before, but for what Go and spare
// processes keep, and the connections that four readers of this test leave open.
func (s *greedyServer) givesBack(t *testing.T, before held) {
	t.Helper()
	const spares = 4
	var now held
	var err error
	for late := time.Now().Add(10 * time.Second); time.Now().Before(late); time.Sleep(100 * time.Millisecond) {
		if now, err = s.holding(); err != nil {
			continue
		}
		m := now.metrics
		if now.children <= spares && m["queries_running"]+m["queries_waiting"]+m["puts_running"]+m["puts_waiting"] == 0 && m["message_bytes"] < 1<<20 &&
			m["connections"] <= before.metrics["connections"]+5 && m["go_goroutines"] <= before.metrics["go_goroutines"]+40 &&
			m["process_open_fds"] <= before.metrics["process_open_fds"]+40 && now.server < before.server+fixedServer && now.processes <= spares*fixedProcess {
			t.Logf("given back: %v", now)
			return
		}
	}
	t.Errorf("after 10 s it has %v, before it had %v: %v", now, before, err)
}

// honestClient does what clients do, one after the other.
type honestClient struct {
	address, http, token string
	with                 func(context.Context) context.Context
	flight               flight.Client
	web                  *http.Client

	took   map[string][]time.Duration
	errors map[string]error
	failed int
}

const honestHost = "127.0.2.1"

func newHonest(t *testing.T, address, web string) *honestClient {
	t.Helper()
	_, token := withToken(t, strangersSecret, Admin)
	h := &honestClient{address: address, http: "http://" + web, token: token, flight: clientFrom(t, honestHost, address), web: webFrom(honestHost)}
	h.with = bearing(token)
	h.forget()
	return h
}

func (h *honestClient) forget() { h.took, h.errors = map[string][]time.Duration{}, map[string]error{} }

// round does each thing once.
func (h *honestClient) round(ctx context.Context) {
	for name, do := range map[string]func(context.Context) error{
		"put": func(ctx context.Context) error {
			return putTest(ctx, h.flight, `{"name":"t","mode":"replace"}`, 1, 100)
		},
		"get": func(ctx context.Context) error { return readAll(ctx, h.flight, `{"name":"t"}`, 0) },
		"SELECT": func(ctx context.Context) error {
			return readAll(ctx, h.flight, `{"name":"t","sql":"SELECT count(*) FROM t"}`, 0)
		},
		"health": func(ctx context.Context) error { return h.ask(ctx, "/healthz") },
		"page":   func(ctx context.Context) error { return h.ask(ctx, "/api/tree") },
		"rows":   func(ctx context.Context) error { return h.ask(ctx, "/api/rows?table=t") },
	} {
		if ctx.Err() != nil {
			return
		}
		call, end := context.WithTimeout(h.with(ctx), 30*time.Second)
		began := time.Now()
		err := do(call)
		end()
		if ctx.Err() != nil {
			return
		}
		h.took[name] = append(h.took[name], time.Since(began))
		if err != nil {
			h.errors[name] = err
			h.failed++
		}
	}
}

func (h *honestClient) ask(ctx context.Context, path string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.http+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+h.token)
	r.Header.Set("X-Partd", "1")
	a, err := h.web.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err == nil && a.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %.200s", a.StatusCode, text)
	}
	return err
}

// tell says how long each took: a second at the most, but for one in a hundred. A short
// run has too few answers to tell one of a hundred, and other tests share its machine: it
// allows three seconds, or four times what a server of its own takes, and looks at half of
// the statements only.
func (h *honestClient) tell(t *testing.T, alone *honestClient) {
	t.Helper()
	at := func(took []time.Duration, percent int) time.Duration {
		slices.Sort(took)
		return took[min(len(took)-1, len(took)*percent/100)].Round(time.Microsecond)
	}
	long := os.Getenv("PARTD_GREEDY") != ""
	for name, took := range h.took {
		other := alone.took[name]
		if len(other) == 0 {
			other = []time.Duration{0}
		}
		t.Logf("%s: %d times, p50 %v, p99 %v, at the most %v; on a server of its own p50 %v, p99 %v", name, len(took), at(took, 50), at(took, 99), at(took, 100), at(other, 50), at(other, 99))
		percent, most := 99, time.Second
		if !long {
			most = max(3*time.Second, 4*at(other, 99))
		}
		if !long && (name == "SELECT" || name == "rows") {
			percent = 50
		}
		if at(took, percent) > most {
			t.Errorf("%s: the honest client waits %v (p%d)", name, at(took, percent), percent)
		}
	}
	for name, err := range h.errors {
		t.Errorf("%s: %d failed, such as: %v", name, h.failed, err)
	}
}

// attack begins every attack at once. It counts how often each was begun, until ctx
// ends.
func attack(ctx context.Context, t *testing.T, s *greedyServer) (begun map[string]*atomic.Int64, wg *sync.WaitGroup) {
	t.Helper()
	begun, wg = map[string]*atomic.Int64{}, &sync.WaitGroup{}
	_, address := s.Address()
	for _, a := range attacks(t, address, s.http) {
		n := &atomic.Int64{}
		begun[a.name] = n
		for i := range a.clients {
			wg.Go(func() {
				from := a.hosts[i%len(a.hosts)]
				for ctx.Err() == nil {
					n.Add(1)
					once, end := context.WithTimeout(ctx, 20*time.Second)
					a.do(once, from)
					end()
					select {
					case <-ctx.Done():
					case <-time.After(time.Duration(10+rand.IntN(200)) * time.Millisecond):
					}
				}
			})
		}
	}
	return begun, wg
}
