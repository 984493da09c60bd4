package compress

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/remote"
)

// allLayers is the environment variable that makes the tests run the whole suite on every layer over
// every store. By default, they run it on two formats over Dict, and if PARTD_REQUIRE_ALL is set, also
// on one layer over a log and over a client.
const allLayers = "PARTD_ALL_LAYERS"

// storeKind is a kind of store for testing layers.
type storeKind struct {
	name         string
	open         func(t *testing.T, dir string) partd.Partd // dir must exist
	isPersistent bool                                       // whether data survives closing the store
	abilities    []partdtest.Ability
}

// stores returns the kinds of stores for testing layers.
func stores() []storeKind {
	abilities := []partdtest.Ability{
		partdtest.CanSet, partdtest.CanDelete, partdtest.CanPop, partdtest.CanList, partdtest.CanOpen,
		partdtest.CanScan, partdtest.CanStat, partdtest.CanClose,
	}
	return []storeKind{
		{"dict", func(*testing.T, string) partd.Partd { return partd.NewDict() }, false, abilities},
		{"log", openLog, true, slices.Concat(abilities, []partdtest.Ability{partdtest.CanFlush, partdtest.CanSync})},
		{"file", openFile, true, slices.Concat(abilities, []partdtest.Ability{partdtest.CanSync})},
		{"client", openClient, false, abilities},
	}
}

// openClient returns a client of a server over Dict that runs until the test ends.
func openClient(t *testing.T, _ string) partd.Partd {
	t.Helper()
	server := must.Get(remote.NewServer(partd.NewDict(), nil))(t)
	listener := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.Background(), listener) }()
	client := must.Get(remote.Dial(t.Context(), remote.URL(listener.Addr()), nil))(t)
	t.Cleanup(func() { must.Do(t, errors.Join(client.Close(), server.Shutdown(context.Background()), <-done)) })
	return client
}

func openFile(t *testing.T, dir string) partd.Partd {
	t.Helper()
	return must.Get(partd.OpenFile(dir, nil))(t)
}

func openLog(t *testing.T, dir string) partd.Partd {
	t.Helper()
	return must.Get(logstore.Open(dir, &logstore.Options{Memory: logstore.MinMemory}))(t)
}

// addLayers adds layers to a store. layers lists their names, outermost first, separated by "+". Each
// is a compression format, or "buffer" for a partd.Buffer.
func addLayers(t *testing.T, store partd.Partd, layers string) partd.Partd {
	t.Helper()
	names := strings.Split(layers, "+")
	for _, name := range slices.Backward(names) {
		var err error
		if name == "buffer" {
			store, err = partd.NewBuffer(partd.NewDict(), store, &partd.BufferOptions{Memory: 64 << 10})
		} else {
			store, err = New(store, Format(name), nil)
		}
		must.Do(t, err)
	}
	return store
}

// checkConformance runs partdtest on layers over a store.
func checkConformance(t *testing.T, kind storeKind, layers string) {
	dirs := map[partd.Partd]string{}
	open := func(t *testing.T, dir string) partd.Partd {
		store := addLayers(t, kind.open(t, dir), layers)
		dirs[store] = dir
		return store
	}
	opts := &partdtest.Options{Require: kind.abilities, LargeValue: 300 << 10, Pieces: 40, MachineRuns: 5}
	if strings.Contains(layers, "buffer") { // Buffer is not an Applier
		opts.Without = []partdtest.Ability{partdtest.CanApply}
	}
	if kind.isPersistent {
		opts.Reopen = func(t *testing.T, s partd.Partd) partd.Partd {
			if err := partd.Close(t.Context(), s); err != nil && !errors.Is(err, partd.ErrClosed) {
				t.Fatal(err)
			}
			return open(t, dirs[s])
		}
	}
	run := partdtest.StateMachine
	switch layers + " over " + kind.name {
	case "snappy over dict", "zstd over dict", "zstd+buffer+snappy over dict":
		run = partdtest.Run
	case "lz4 over log", "gzip over client":
		run = storetest.CheckSlow
	}
	if os.Getenv(allLayers) != "" {
		run = partdtest.Run
	} else {
		opts.Parts = 2000
	}
	run(t, func(t *testing.T) partd.Partd { return open(t, t.TempDir()) }, opts)
}

func TestKeepsPromises(t *testing.T) {
	for i, format := range Formats() {
		for j, kind := range stores() {
			if os.Getenv(allLayers) == "" && j > 0 && (i+j)%4 != 0 {
				continue
			}
			t.Run(string(format)+" over "+kind.name, func(t *testing.T) { checkConformance(t, kind, string(format)) })
		}
	}
}

func TestNestedKeepsPromises(t *testing.T) {
	for i, layers := range []string{
		"zstd+buffer+snappy",
		"s2+lz4+zlib+gzip+bz2+blosc+snappy+zstd",
		"buffer+blosc+buffer+bz2",
		"gzip+buffer+zlib+lz4+s2",
	} {
		for j, kind := range stores() {
			if os.Getenv(allLayers) == "" && i != j {
				continue
			}
			t.Run(layers+" over "+kind.name, func(t *testing.T) { checkConformance(t, kind, layers) })
		}
	}
}
