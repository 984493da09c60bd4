package remote

import (
	"context"
	"net"
	"os"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/partdtest"
)

// stores opens the stores that tests serve, by name.
var stores = map[string]func(t *testing.T) partd.Partd{
	"dict": func(*testing.T) partd.Partd { return partd.NewDict() },
	"file": func(t *testing.T) partd.Partd { return openFile(t) },
	"log": func(t *testing.T) partd.Partd {
		return must.Get(logstore.Open(t.TempDir(), &logstore.Options{Memory: logstore.MinMemory}))(t)
	},
	"buffer": func(t *testing.T) partd.Partd {
		return must.Get(partd.NewBuffer(partd.NewDict(), openFile(t), &partd.BufferOptions{Memory: 64 << 10}))(t)
	},
}

// ctx is the context of tests that do not cancel operations.
var ctx = context.Background()

func openFile(t *testing.T) partd.Partd {
	return must.Get(partd.OpenFile(t.TempDir(), nil))(t)
}

// serve runs a server with a store until the test ends, and returns the server and its URL.
func serve(t testing.TB, store partd.Partd, opts *ServerOptions) (*Server, string) {
	t.Helper()
	s := must.Get(NewServer(store, opts))(t)
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		must.Do(t, s.Shutdown(context.Background()))
		must.Do(t, <-done)
	})
	return s, URL(l.Addr())
}

func dial(t testing.TB, url string, opts *ClientOptions) *Client {
	t.Helper()
	c := must.Get(Dial(context.Background(), url, opts))(t)
	t.Cleanup(func() { must.Do(t, c.Close()) })
	return c
}

// serveClient runs a server with a store until the test ends, and returns the server and a client.
func serveClient(t testing.TB, store partd.Partd, opts *ServerOptions) (*Server, *Client) {
	t.Helper()
	s, url := serve(t, store, opts)
	return s, dial(t, url, nil)
}

// TestClientKeepsPromises runs partdtest over a client, for slow stores only its state machine. It is not parallel,
// because partdtest would take the goroutines and connections of other tests for leaks.
func TestClientKeepsPromises(t *testing.T) {
	abilities := []partdtest.Ability{
		partdtest.CanSet, partdtest.CanDelete, partdtest.CanPop, partdtest.CanList, partdtest.CanOpen, partdtest.CanScan,
		partdtest.CanStat, partdtest.CanClose,
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			openClient := func(t *testing.T) partd.Partd {
				_, url := serve(t, open(t), nil)
				return dial(t, url, nil)
			}
			opts := &partdtest.Options{Require: abilities, MachineRuns: 5, Pieces: 60, LargeValue: defaultPage + 1<<20}
			if os.Getenv("PARTD_ALL_LAYERS") == "" {
				opts.Parts = 2000
			}
			run := storetest.CheckSlow
			if name == "dict" {
				run = partdtest.Run
			}
			run(t, openClient, opts)
		})
	}
}

func TestMain(m *testing.M) {
	procs.AllowParallel()
	procs.Main(m)
}

// cuttingClient is a client that loses its connection or its server before each operation.
type cuttingClient struct {
	*Client
	r *restartingServer
	t *testing.T
	n int // number of operations so far
}

// cut breaks the connection or, at every third operation, restarts the server.
func (c *cuttingClient) cut() {
	c.n++
	if c.n%3 != 0 {
		c.r.proxy.Cut()
		return
	}
	// The client cannot know whether a request to a dead server arrived. So before the next
	// operation, wait until the client has detected the broken connection.
	c.Client.mu.Lock()
	if current := c.attempt; current != nil {
		c.Client.mu.Unlock()
		<-current.done
		c.Client.mu.Lock()
	}
	l := c.link
	c.Client.mu.Unlock()
	c.r.restart(c.t)
	c.r.proxy.Cut()
	if l != nil {
		<-l.done
	}
}

func (c *cuttingClient) Append(ctx context.Context, entries ...partd.Entry) error {
	c.cut()
	return c.Client.Append(ctx, entries...)
}

func (c *cuttingClient) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	c.cut()
	return c.Client.Get(ctx, keys...)
}

func (c *cuttingClient) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	c.cut()
	return c.Client.Pop(ctx, keys...)
}

func (c *cuttingClient) Set(ctx context.Context, key string, value []byte) error {
	c.cut()
	return c.Client.Set(ctx, key, value)
}

func (c *cuttingClient) SetOnce(ctx context.Context, key string, value []byte) error {
	c.cut()
	return c.Client.SetOnce(ctx, key, value)
}

func (c *cuttingClient) Delete(ctx context.Context, keys ...string) error {
	c.cut()
	return c.Client.Delete(ctx, keys...)
}

func (c *cuttingClient) Drop(ctx context.Context) error {
	c.cut()
	return c.Client.Drop(ctx)
}

func (c *cuttingClient) Flush(ctx context.Context) error {
	c.cut()
	return c.Client.Flush(ctx)
}

// TestMachineWithCuts checks that a client behaves like a plain map, although its connection is cut or
// its server is killed before each operation.
func TestMachineWithCuts(t *testing.T) {
	for _, name := range []string{"buffer", "dict", "log"} {
		t.Run(name, func(t *testing.T) {
			partdtest.StateMachine(t, func(t *testing.T) partd.Partd {
				r := startRestarting(t, stores[name](t), nettest.CutNever)
				return &cuttingClient{Client: dialRepeatedly(t, r.proxy.URL()), r: r, t: t}
			}, &partdtest.Options{MachineRuns: 8})
		})
	}
}
