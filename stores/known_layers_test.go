package stores_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/remote"
)

func TestMain(m *testing.M) {
	procs.AllowParallel()
	procs.Main(m)
}

// layers has functions that put layers over a store. able lists the abilities that the layers have
// over any store; lacks lists the abilities that the layers never have.
var layers = map[string]struct {
	addLayer    func(t *testing.T, inner partd.Partd) partd.Partd
	able, lacks string
}{
	"nothing": {addLayer: func(_ *testing.T, p partd.Partd) partd.Partd { return p }},
	"zstd":    {addLayer: func(t *testing.T, p partd.Partd) partd.Partd { return withCompression(t, p, compress.Zstd) }},
	"zlib":    {addLayer: func(t *testing.T, p partd.Partd) partd.Partd { return withCompression(t, p, compress.Zlib) }},
	"zstd over zlib": {addLayer: func(t *testing.T, p partd.Partd) partd.Partd {
		return withCompression(t, withCompression(t, p, compress.Zlib), compress.Zstd)
	}},
	"buffer": {addLayer: withBuffer, able: "flush close", lacks: "apply"},
	"zstd over a buffer": {
		addLayer: func(t *testing.T, p partd.Partd) partd.Partd {
			return withCompression(t, withBuffer(t, p), compress.Zstd)
		},
		able: "flush close", lacks: "apply",
	},
	"a server": {addLayer: withServer, able: "apply close"},
	"a server of zstd over a buffer": {
		addLayer: func(t *testing.T, p partd.Partd) partd.Partd {
			return withServer(t, withCompression(t, withBuffer(t, p), compress.Zstd))
		},
		able: "apply flush close",
	},
}

func withCompression(t testing.TB, p partd.Partd, format compress.Format) partd.Partd {
	t.Helper()
	return must.Get(compress.New(p, format, nil))(t)
}

func withBuffer(t *testing.T, slow partd.Partd) partd.Partd {
	return must.Get(partd.NewBuffer(partd.NewDict(), slow, nil))(t)
}

// withServer returns a client of a server with a store.
func withServer(t *testing.T, store partd.Partd) partd.Partd {
	s := must.Get(remote.NewServer(store, nil))(t)
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	c := must.Get(remote.Dial(t.Context(), remote.URL(l.Addr()), nil))(t)
	t.Cleanup(func() {
		must.Do(t, errors.Join(c.Close(), s.Shutdown(context.Background()), <-done))
	})
	return c
}

// TestFallbacks runs partdtest on stores with few abilities, for which partd's functions have
// fallbacks. It runs the whole suite on one of them, on each of them if PARTD_REQUIRE_ALL is set, and
// also with layers above if PARTD_ALL_LAYERS is set. Otherwise, it runs only the state machine.
func TestFallbacks(t *testing.T) {
	for _, abilities := range []string{"keys", "keys and open", "keys and scan"} {
		for _, layer := range []string{"nothing", "zstd", "buffer"} {
			t.Run(layer+" over "+abilities, func(t *testing.T) {
				run := partdtest.StateMachine
				parts := 2000
				if os.Getenv("PARTD_ALL_LAYERS") != "" {
					parts = 0 // all
				}
				switch {
				case layer == "nothing" && abilities == "keys", parts == 0: // with PARTD_ALL_LAYERS
					run = partdtest.Run
				case layer == "nothing":
					run = storetest.CheckSlow
				}
				run(t, func(t *testing.T) partd.Partd {
					return layers[layer].addLayer(t, partialStores[abilities](partd.NewDict()))
				}, &partdtest.Options{
					Require:     []partdtest.Ability{partdtest.CanList, partdtest.CanScan, partdtest.CanStat},
					MachineRuns: 5, LargeValue: 1 << 20, Parts: parts,
				})
			})
		}
	}
}
