package servercli_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/cutproxy"
	"github.com/go-partd/partd/internal/testutil/serverproc"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/stores"
)

func init() {
	// This child is a server whose store ignores the numbers of operations.
	children["numbering-off"] = func(args []string) error {
		store, err := stores.Open(context.Background(), args[0])
		if err != nil {
			return err
		}
		return serveStore(untaggedStore{store}, args[1], nil)
	}
}

// untaggedStore is a store that ignores tags, and so applies an operation again when it is retried.
type untaggedStore struct{ partd.Partd }

func (f untaggedStore) NewSession(ctx context.Context) (uint64, error) {
	return f.Partd.(partd.Applier).NewSession(ctx)
}

func (f untaggedStore) SessionToken(ctx context.Context, session uint64) (partd.SessionToken, error) {
	return f.Partd.(partd.SessionGuard).SessionToken(ctx, session)
}

func (f untaggedStore) CheckSession(ctx context.Context, session uint64, token partd.SessionToken) error {
	return f.Partd.(partd.SessionGuard).CheckSession(ctx, session, token)
}

func (f untaggedStore) EndSession(ctx context.Context, session uint64) error {
	return f.Partd.(partd.Applier).EndSession(ctx, session)
}

func (f untaggedStore) Apply(ctx context.Context, _ partd.Tag, op partd.Operation) (bool, error) {
	var err error
	switch op.Change {
	case partd.ChangeAppend:
		err = f.Append(ctx, op.Entries...)
	case partd.ChangeSet:
		err = partd.Set(ctx, f.Partd, op.Entries[0].Key, op.Entries[0].Value)
	case partd.ChangeSetOnce:
		err = partd.SetOnce(ctx, f.Partd, op.Entries[0].Key, op.Entries[0].Value)
	case partd.ChangeDelete:
		err = partd.Delete(ctx, f.Partd, op.Keys...)
	case partd.ChangeDrop:
		err = f.Drop(ctx)
	}
	time.Sleep(time.Millisecond) // increases the chance of a kill between applying and answering
	return err == nil, err
}

func (f untaggedStore) Set(ctx context.Context, key string, value []byte) error {
	return partd.Set(ctx, f.Partd, key, value)
}

func (f untaggedStore) SetOnce(ctx context.Context, key string, value []byte) error {
	return partd.SetOnce(ctx, f.Partd, key, value)
}

func (f untaggedStore) Delete(ctx context.Context, keys ...string) error {
	return partd.Delete(ctx, f.Partd, keys...)
}

func (f untaggedStore) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return partd.Scan(ctx, f.Partd)
}

func (f untaggedStore) Close() error { return partd.Close(context.Background(), f.Partd) }

func serverAt(ctx context.Context, child, store, address string) (*serverproc.Process, error) {
	args := []string{store, "tcp://" + address}
	if child == "server" {
		args = []string{"--store", store, "--listen", "tcp://" + address}
	}
	return serverproc.Start(ctx, command(child, args...), 1)
}

// runWithCuts cuts connections of running clients, and returns an error if the store's content is wrong.
func runWithCuts(t *testing.T, child, store, namespace string, clients, perClient, cuts int, pops bool) error {
	ctx := boundedContext(t, cuts)
	seed := uint64(time.Now().UnixNano())
	p, err := serverAt(ctx, child, store, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	network, address := p.Address()
	proxy, err := cutproxy.New(network, address, seed)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	}()
	urls := make([]string, clients)
	for i := range urls {
		urls[i] = proxy.URL() + namespace
	}
	f, err := newFleet(ctx, urls, perClient, seed, pops)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for int(proxy.Cuts()) < cuts && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		proxy.StopCutting()
	}()
	start := time.Now()
	if err := f.write(ctx, stop); err != nil {
		return fmt.Errorf("seed %d, after %d cuts: %w", seed, proxy.Cuts(), err)
	}
	f.close(t)
	t.Logf("seed %d: %d connections cut under %d clients and %d changes, in %v", seed, proxy.Cuts(), clients, f.changes(), time.Since(start))
	return check(ctx, t, f, p.URL()+namespace)
}

// check checks the store's content with a new client, over a direct connection.
func check(ctx context.Context, t *testing.T, f *fleet, url string) error {
	c, err := remote.Dial(ctx, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return errors.Join(f.check(ctx, c), c.Close())
}

// TestCutConnections checks that changes over cut connections are applied once and in order.
func TestCutConnections(t *testing.T) {
	cuts := numberFromEnv(t, "PARTD_CUTS", 300)
	for _, c := range []struct {
		name, store        string
		namespace          string
		clients, perClient int
		share              int // percentage of cuts that this case makes
	}{
		{"log", "log:%s", "", 4, 3, 50},
		{"namespace", "log:%s", "/job7", 4, 3, 25},
		{"namespace, one client", "log:%s", "/job7", 1, 2, 10},
		{"file", "file:%s", "", 4, 2, 25},
		{"buffer", "buffer+file:%s?memory=1MiB", "", 4, 2, 15},
		{"memory, one writer that drops", "mem:", "", 1, 1, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := c.store
			if strings.Contains(store, "%s") {
				store = fmt.Sprintf(store, t.TempDir()+"/data")
			}
			if err := runWithCuts(t, "server", store, c.namespace, c.clients, c.perClient, max(1, cuts*c.share/100), true); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestCutConnectionsWithoutNumbers checks that TestCutConnections would detect duplicates: its check must fail if the
// store ignores the numbers of operations.
func TestCutConnectionsWithoutNumbers(t *testing.T) {
	for range 10 {
		if err := runWithCuts(t, "numbering-off", "log:"+t.TempDir()+"/data", "", 4, 3, 200, false); err != nil {
			logDuplicate(t, err)
			return
		}
	}
	t.Fatal("the check found no change that was applied twice, although 2,000 connections were cut without numbering")
}

// logDuplicate logs the error of a check that found a duplicate. It fails the test for an error of a store.
func logDuplicate(t *testing.T, err error) {
	t.Helper()
	if errors.As(err, new(*partd.Error)) {
		t.Fatal(err)
	}
	t.Log(err)
}

// runWithKills kills the server of running clients, and returns an error if the store's content is wrong.
func runWithKills(t *testing.T, child, store, namespace string, kills int) error {
	ctx := boundedContext(t, 20*kills)
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 1<<40))
	p, err := serverAt(ctx, child, store, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, address := p.Address() // the next servers use the same address
	defer func() { p.Kill() }()
	url := p.URL() + namespace
	f, err := newFleet(ctx, []string{url, url, url, url}, 2, seed, false)
	if err != nil {
		t.Fatal(err)
	}
	stop, written := make(chan struct{}), make(chan error, 1)
	go func() { written <- f.write(ctx, stop) }()
	start := time.Now()
	for n := range kills {
		select {
		case err := <-written:
			return fmt.Errorf("seed %d, after %d kills: %w", seed, n, err)
		case <-time.After(time.Duration(rnd.Int64N(int64(150 * time.Millisecond)))):
		}
		p.Kill()
		for try := 0; ; try++ {
			if p, err = serverAt(ctx, child, store, address); err == nil {
				break
			}
			if try > 10 {
				t.Fatalf("seed %d: after kill %d: %v", seed, n+1, err)
			}
			time.Sleep(100 * time.Millisecond) // another process may briefly use the port
		}
	}
	time.Sleep(100 * time.Millisecond)
	close(stop)
	if err := <-written; err != nil {
		return fmt.Errorf("seed %d, after %d kills: %w", seed, kills, err)
	}
	f.close(t)
	t.Logf("seed %d: %d kills under 4 clients and %d changes, in %v", seed, kills, f.changes(), time.Since(start))
	return check(ctx, t, f, p.URL()+namespace)
}

// TestKillServer checks that changes are applied once and in order while the server is killed (SIGKILL).
func TestKillServer(t *testing.T) {
	kills := numberFromEnv(t, "PARTD_KILLS", 10)
	for _, c := range []struct{ store, namespace string }{{"log:", ""}, {"log:", "/job7"}, {"file:", ""}} {
		t.Run(c.store+c.namespace, func(t *testing.T) {
			if err := runWithKills(t, "server", c.store+t.TempDir()+"/data", c.namespace, max(1, kills/2)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestKillServerWithoutNumbers checks that TestKillServer would detect duplicates: its check must fail if the store
// ignores the numbers of operations.
func TestKillServerWithoutNumbers(t *testing.T) {
	for range 20 {
		if err := runWithKills(t, "numbering-off", "log:"+t.TempDir()+"/data", "", 10); err != nil {
			logDuplicate(t, err)
			return
		}
	}
	t.Fatal("the check found no change that was applied twice, although 200 servers without numbering were killed")
}
