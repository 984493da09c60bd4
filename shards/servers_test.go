package shards_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/cli"
	"github.com/go-partd/partd/internal/servercli"
	"github.com/go-partd/partd/internal/testutil/serverproc"
	"github.com/go-partd/partd/internal/testutil/testcert"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/shards"
	"github.com/go-partd/partd/stores"
)

// asServer and asPartd are environment variables that make the test binary run as a server and as
// the command partd.
const asServer, asPartd = "PARTD_TEST_SERVER", "PARTD_TEST_PARTD"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		os.Exit(servercli.Main(os.Args[1:]))
	}
	if os.Getenv(asPartd) != "" {
		os.Exit(cli.Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t testing.TB, args ...string) *serverproc.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asServer+"=1")
	p, err := serverproc.Start(context.Background(), cmd, 1)
	must(t, err)
	t.Cleanup(p.Kill)
	return p
}

// cluster has three servers, with the address and the arguments of each.
type cluster struct {
	servers   [3]*serverproc.Process
	addresses [3]string
	args      [3][]string
}

func startCluster(t testing.TB) *cluster {
	c := &cluster{}
	for i := range c.servers {
		c.args[i] = []string{"--store", "log:" + t.TempDir() + "/data", "--listen"}
		c.servers[i] = start(t, append(c.args[i], "tcp://127.0.0.1:0")...)
		_, c.addresses[i] = c.servers[i].Address()
	}
	return c
}

func (c *cluster) restart(t testing.TB, i int) {
	c.servers[i] = start(t, append(c.args[i], "tcp://"+c.addresses[i])...)
}

func (c *cluster) url() string { return "tcp://" + strings.Join(c.addresses[:], ",") }

// serverOf returns the index of each key's server, from the servers' own listings.
func (c *cluster) serverOf(t testing.TB) map[string]int {
	t.Helper()
	servers := map[string]int{}
	for i, address := range c.addresses {
		store := open(t, "tcp://"+address)
		for info, err := range partd.Keys(context.Background(), store) {
			must(t, err)
			servers[info.Key] = i
		}
		must(t, partd.Close(context.Background(), store))
	}
	return servers
}

func open(t testing.TB, url string) partd.Partd {
	t.Helper()
	s, err := stores.Open(context.Background(), url)
	must(t, err)
	return s
}

func scan(ctx context.Context, s partd.Partd, part, parts int) (map[string]string, error) {
	got := map[string]string{}
	for c, err := range partd.ScanPart(ctx, s, part, parts) {
		if err != nil {
			return got, err
		}
		got[c.Key] += string(c.Data)
	}
	return got, nil
}

// TestServersKeepPromises runs partdtest over three servers, with a new namespace for each check.
func TestServersKeepPromises(t *testing.T) {
	var addresses []string
	for range 3 {
		_, address := start(t, "--store", "log:"+t.TempDir()+"/data", "--listen", "tcp://127.0.0.1:0").Address()
		addresses = append(addresses, address)
	}
	n := 0
	run := partdtest.StateMachine
	if os.Getenv("PARTD_REQUIRE_ALL") != "" {
		run = partdtest.Run
	}
	run(t, func(t *testing.T) partd.Partd {
		n++
		return open(t, fmt.Sprintf("tcp://%s/n%d", strings.Join(addresses, ","), n))
	}, &partdtest.Options{
		Require: []partdtest.Ability{
			partdtest.CanSet, partdtest.CanDelete, partdtest.CanList, partdtest.CanOpen, partdtest.CanScan,
			partdtest.CanFlush, partdtest.CanSync, partdtest.CanStat, partdtest.CanClose,
		},
		MachineRuns: 3, Pieces: 60,
	})
}

// TestServerKilled kills a server under load and restarts it. While the server is down, operations
// on its keys must fail with an error that names it, and operations on other keys must
// succeed, even for a new client. After the restart all clients must work, and every
// acknowledged batch must exist once.
func TestServerKilled(t *testing.T) {
	ctx := t.Context()
	c := startCluster(t)
	const writers, keys = 4, 60
	key := func(i int) string { return fmt.Sprint("key ", i) }
	var batches atomic.Int64
	var stopped atomic.Bool
	var acknowledged [writers]atomic.Int64
	var wg sync.WaitGroup
	for w := range writers {
		store := open(t, c.url())
		wg.Go(func() {
			for !stopped.Load() {
				var batch []partd.Entry
				for i := range keys {
					batch = append(batch, partd.Entry{Key: key(i), Value: fmt.Appendf(nil, "%d/%d ", w, acknowledged[w].Load())})
				}
				if err := store.Append(ctx, batch...); err != nil {
					t.Error(err)
					break
				}
				acknowledged[w].Add(1)
				batches.Add(1)
			}
			if err := partd.Close(ctx, store); err != nil {
				t.Error(err)
			}
		})
	}
	probe := open(t, c.url())
	for batches.Load() < 3 && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	serverOf := c.serverOf(t)
	if _, err := probe.Get(ctx, key(0)); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		const victim = 1
		c.servers[victim].Kill()
		newClient := open(t, c.url()) // opened while a server is down
		failed, succeeded := 0, 0
		for i := range keys {
			for name, store := range map[string]partd.Partd{"an old client": probe, "a new client": newClient} {
				shortCtx, cancel := context.WithTimeout(ctx, 20*time.Second)
				if serverOf[key(i)] == victim {
					cancel()
					shortCtx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
				}
				_, err := store.Get(shortCtx, key(i))
				cancel()
				switch {
				case serverOf[key(i)] != victim:
					succeeded++
					if err != nil {
						t.Fatalf("Get by %s from a server that is up: %v", name, err)
					}
				case err == nil || !strings.Contains(err.Error(), "shard "+c.addresses[victim]+": "):
					t.Fatalf("Get by %s from the server that is down = %v, want an error that names the server", name, err)
				default:
					failed++
				}
			}
		}
		if failed == 0 || succeeded == 0 {
			t.Fatalf("%d gets failed and %d succeeded, want some of both", failed, succeeded)
		}
		c.restart(t, victim)
		// An append in progress during two kills may end with an unknown outcome.
		for w := range acknowledged {
			for before := acknowledged[w].Load(); acknowledged[w].Load() < before+5 && !t.Failed(); {
				time.Sleep(time.Millisecond)
			}
		}
		if got, err := scan(ctx, newClient, 0, 1); err != nil || len(got) != keys {
			t.Errorf("round %d: scan by the new client = %d keys, %v, want %d", round, len(got), err, keys)
		}
		must(t, partd.Close(ctx, newClient))
	}
	stopped.Store(true)
	wg.Wait()
	got := map[string]string{}
	for part := range 2 {
		partValues, err := scan(ctx, probe, part, 2)
		must(t, err)
		maps.Copy(got, partValues)
	}
	must(t, partd.Close(ctx, probe))
	if len(got) != keys {
		t.Errorf("both parts have %d keys, want %d", len(got), keys)
	}
	want := make([]int64, writers)
	for w := range want {
		want[w] = acknowledged[w].Load()
	}
	for k, value := range got {
		next := make([]int64, writers)
		for _, piece := range strings.Fields(value) {
			var w int
			var n int64
			if _, err := fmt.Sscanf(piece, "%d/%d", &w, &n); err != nil || n != next[w] {
				t.Fatalf("%s: the next piece of writer %d is %q, want number %d", k, w, piece, next[w])
			}
			next[w]++
		}
		if !slices.Equal(next, want) {
			t.Fatalf("%s has %d batches, want the acknowledged %d", k, next, want)
		}
	}
	t.Logf("%d batches of %d keys were appended during two kills", batches.Load(), keys)
}

// TestListsOfServers checks that a client with fewer servers is rejected, that the order of servers
// does not matter, and that each namespace has its own list.
func TestListsOfServers(t *testing.T) {
	ctx := t.Context()
	c := startCluster(t)
	threeServers := open(t, c.url()+"/job1")
	must(t, threeServers.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}))
	rotated := []string{c.addresses[2], c.addresses[0], c.addresses[1]}
	reordered := open(t, "tcp://"+strings.Join(rotated, ",")+"/job1?insecure=true")
	if v, err := reordered.Get(ctx, "k"); err != nil || string(v[0]) != "v" {
		t.Errorf("Get with the servers in another order = %q, %v, want v", v, err)
	}
	twoServers := open(t, "tcp://"+strings.Join(c.addresses[:2], ",")+"/job1")
	if err := twoServers.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}); err == nil || !strings.Contains(err.Error(), "another shard list") ||
		!strings.Contains(err.Error(), strings.Join(slices.Sorted(slices.Values(rotated)), ", ")) {
		t.Errorf("Append with two of three servers = %v, want an error with the whole list", err)
	}
	job2 := open(t, "tcp://"+strings.Join(c.addresses[:2], ",")+"/job2")
	must(t, job2.Append(ctx, partd.Entry{Key: "k", Value: []byte("other")}))
	for _, s := range []partd.Partd{threeServers, reordered, twoServers, job2} {
		must(t, partd.Close(ctx, s))
	}
	finalClient := open(t, c.url()+"/job1")
	must(t, finalClient.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}))
	for _, p := range c.servers {
		must(t, p.Stop(time.Minute))
	}
	start := time.Now()
	must(t, finalClient.(io.Closer).Close())
	if elapsed := time.Since(start); elapsed > 20*time.Second {
		t.Errorf("Close took %v after the servers had stopped, want at most 20 s", elapsed)
	}
	if _, err := stores.Open(ctx, c.url()); err == nil || !strings.Contains(err.Error(), "shard "+c.addresses[2]) {
		t.Errorf("Open after the servers had stopped = %v, want an error that names a server", err)
	}
}

// TestServersWithUsers checks that a client uses its token for all servers of a URL over TLS, and that
// Open fails if one of them rejects the token.
func TestServersWithUsers(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	ca, err := testcert.New(dir, "authority")
	must(t, err)
	pair, err := ca.Issue("server", time.Hour, "127.0.0.1")
	must(t, err)
	var addresses []string
	for _, users := range []string{"users", "users", "others"} {
		if _, err := os.Stat(dir + "/" + users); errors.Is(err, os.ErrNotExist) {
			cmd := exec.Command(os.Args[0], "token", "add", "worker", "--tokens-file", dir+"/"+users, "--rights", "append,read,change")
			cmd.Env = append(os.Environ(), asServer+"=1")
			token, err := cmd.Output()
			must(t, err)
			must(t, os.WriteFile(dir+"/token-"+users, token, 0o600))
		}
		p := start(t, "--store", "mem:", "--listen", "tls://127.0.0.1:0", "--tls-cert", pair.Cert, "--tls-key", pair.Key, "--tokens-file", dir+"/"+users)
		addresses = append(addresses, strings.TrimPrefix(p.URL(), "tls://"))
	}
	options := "?ca=" + ca.File + "&token-file=" + dir + "/token-users"
	s := open(t, "tls://"+strings.Join(addresses[:2], ",")+options)
	for i := range 20 {
		must(t, s.Append(ctx, partd.Entry{Key: fmt.Sprint(i), Value: []byte("x")}))
	}
	stats, err := partd.Stat(ctx, s)
	if err != nil || stats.Keys != 20 || stats.Bytes != 20 {
		t.Errorf("Stat = %+v, %v, want 20 keys with 20 bytes", stats, err)
	}
	must(t, partd.Close(ctx, s))
	if _, err := stores.Open(ctx, "tls://"+strings.Join(addresses, ",")+options); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), addresses[2]) {
		t.Errorf("Open with a server that rejects the token = %v, want ErrPermission of that server", err)
	}
}

// TestServerWithAnotherStore checks that old and new clients reject a server that restarted with an
// empty directory, until it restarts with its original one or is adopted.
func TestServerWithAnotherStore(t *testing.T) {
	ctx := t.Context()
	c := startCluster(t)
	store := open(t, c.url())
	for i := range 30 {
		must(t, store.Append(ctx, partd.Entry{Key: fmt.Sprint(i), Value: []byte("x")}))
	}
	serverOf := c.serverOf(t)
	key := func(server int) string {
		for k, i := range serverOf {
			if i == server && k != "partd-shards" {
				return k
			}
		}
		t.Fatalf("server %d has no key", server)
		return ""
	}
	originalArgs := c.args[1]
	expectRefused := func(label string, err error) {
		t.Helper()
		if !errors.Is(err, shards.ErrStoreMismatch) || !strings.Contains(err.Error(), "shard "+c.addresses[1]+": ") {
			t.Errorf("%s = %v, want ErrStoreMismatch of the restarted server", label, err)
		}
	}
	for _, dir := range []string{"empty", "original", "empty"} {
		must(t, c.servers[1].Stop(time.Minute))
		c.args[1] = originalArgs
		if dir == "empty" {
			c.args[1] = []string{"--store", "log:" + t.TempDir() + "/data", "--listen"}
		}
		c.restart(t, 1)
		_, err := store.Get(ctx, key(1))
		if dir == "original" {
			must(t, err)
			if got, err := scan(ctx, store, 0, 1); err != nil || len(got) != 30 {
				t.Errorf("scan with the original store = %d keys, %v, want 30", len(got), err)
			}
			continue
		}
		expectRefused("Get", err)
		expectRefused("Append", store.Append(ctx, partd.Entry{Key: key(1), Value: []byte("x")}))
		_, err = scan(ctx, store, 0, 1)
		expectRefused("scan", err)
		_, err = partd.Stat(ctx, store)
		expectRefused("Stat", err)
		if _, err := store.Get(ctx, key(0), key(2)); err != nil {
			t.Errorf("Get of keys of other servers: %v", err)
		}
		_, err = stores.Open(ctx, c.url())
		expectRefused("Open", err)
	}
	must(t, stores.NewSet().Adopt(ctx, c.url(), c.addresses[1]))
	for k, i := range serverOf {
		if i == 1 {
			delete(serverOf, k)
		}
	}
	if got, err := scan(ctx, store, 0, 1); err != nil || len(got) == 0 || len(got) != len(serverOf)-1 {
		t.Errorf("scan after Adopt = %d keys, %v, want %d", len(got), err, len(serverOf)-1)
	}
	must(t, store.Append(ctx, partd.Entry{Key: "new", Value: []byte("x")}))
	must(t, c.servers[1].Stop(time.Minute))
	c.args[1] = originalArgs
	c.restart(t, 1)
	_, err := scan(ctx, store, 0, 1)
	expectRefused("scan with the original store after Adopt", err)
	must(t, partd.Close(ctx, store))
	for _, name := range []string{"elsewhere:1", ""} {
		if err := stores.NewSet().Adopt(ctx, c.url(), name); !errors.As(err, new(*stores.URLError)) {
			t.Errorf("Adopt(%q) = %v, want a URLError", name, err)
		}
	}
}
