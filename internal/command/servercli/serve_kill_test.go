package servercli_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/remote"
)

// serverAt starts a server with a store at an address. It tries for a second, because another process may briefly use
// the port.
func serverAt(ctx context.Context, store, address string) (p *procs.Server, err error) {
	for range 20 {
		if p, err = procs.StartServer(ctx, command("server", "--store", store, "--listen", "tcp://"+address), 1); err == nil {
			return p, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, err
}

// check checks the store's content with a new client, over a direct connection.
func check(ctx context.Context, t *testing.T, f *fleet, url string) error {
	c := must.Get(remote.Dial(ctx, url, nil))(t)
	return errors.Join(f.check(ctx, c), c.Close())
}

// runWithKills kills the server of running clients, and returns an error if the store's content is wrong.
func runWithKills(t *testing.T, store, namespace string, kills int) error {
	ctx := boundedContext(t, 20*kills)
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 1<<40))
	p := must.Get(serverAt(ctx, store, "127.0.0.1:0"))(t)
	_, address := p.Address() // the next servers use the same address
	defer func() { p.Kill() }()
	url := p.URL() + namespace
	f, err := newFleet(ctx, []string{url, url, url, url}, 2, seed)
	must.Do(t, err)
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
		if p, err = serverAt(ctx, store, address); err != nil {
			t.Fatalf("seed %d: after kill %d: %v", seed, n+1, err)
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
	t.Parallel()
	kills := procs.Kills(t, 10)
	for _, c := range []struct{ store, namespace string }{{"log:", ""}, {"log:", "/job7"}, {"file:", ""}} {
		t.Run(c.store+c.namespace, func(t *testing.T) {
			must.Do(t, runWithKills(t, c.store+t.TempDir()+"/data", c.namespace, max(1, kills/2)))
		})
	}
}
