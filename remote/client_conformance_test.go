package remote

import (
	"context"
	"net"
	"os"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
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
