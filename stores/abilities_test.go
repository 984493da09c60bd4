package stores_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/shuffle"
)

// bare is a store with only the three required methods.
type bare struct{ partd.Partd }

// partialStores has functions that hide all abilities of a Dict except those in their keys.
var partialStores = map[string]func(d *partd.Dict) partd.Partd{
	"none": func(d *partd.Dict) partd.Partd { return bare{d} },
	"keys": func(d *partd.Dict) partd.Partd { return canList{bare{d}, d} },
	"open": func(d *partd.Dict) partd.Partd { return canOpen{bare{d}, dictOpener{d}} },
	"scan": func(d *partd.Dict) partd.Partd { return canScan{bare{d}, d} },
	"scan and parts": func(d *partd.Dict) partd.Partd {
		return struct {
			canScan
			partd.PartScanner
		}{canScan{bare{d}, d}, d}
	},
	"stat": func(d *partd.Dict) partd.Partd { return canStat{bare{d}, d} },
	"set": func(d *partd.Dict) partd.Partd {
		return struct {
			bare
			partd.Setter
		}{bare{d}, d}
	},
	"delete": func(d *partd.Dict) partd.Partd {
		return struct {
			bare
			partd.Deleter
		}{bare{d}, d}
	},
	"pop": func(d *partd.Dict) partd.Partd {
		return struct {
			bare
			partd.Popper
		}{bare{d}, d}
	},
	"apply": func(d *partd.Dict) partd.Partd {
		return struct {
			bare
			partd.Applier
		}{bare{d}, d}
	},
	"flush and sync": func(d *partd.Dict) partd.Partd {
		return struct {
			bare
			noopFlusher
		}{bare{d}, noopFlusher{}}
	},
	"close": func(d *partd.Dict) partd.Partd {
		return struct {
			bare
			io.Closer
		}{bare{d}, d}
	},
	"keys and open": func(d *partd.Dict) partd.Partd {
		return struct {
			canList
			partd.Opener
		}{canList{bare{d}, d}, dictOpener{d}}
	},
	"keys and scan": func(d *partd.Dict) partd.Partd {
		return struct {
			canList
			partd.Scanner
		}{canList{bare{d}, d}, d}
	},
	"keys and stat": func(d *partd.Dict) partd.Partd {
		return struct {
			canList
			partd.Statter
		}{canList{bare{d}, d}, d}
	},
	"scan and stat": func(d *partd.Dict) partd.Partd {
		return struct {
			canScan
			partd.Statter
		}{canScan{bare{d}, d}, d}
	},
	"all": func(d *partd.Dict) partd.Partd { return d },
}

type (
	canList struct {
		bare
		partd.Lister
	}
	canOpen struct {
		bare
		partd.Opener
	}
	canScan struct {
		bare
		partd.Scanner
	}
	canStat struct {
		bare
		partd.Statter
	}
)

// dictOpener adds Open to a Dict, which has no such method.
type dictOpener struct{ d *partd.Dict }

func (o dictOpener) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	return partd.Open(ctx, o.d, key)
}

type noopFlusher struct{}

func (noopFlusher) Flush(context.Context) error { return nil }
func (noopFlusher) Sync(context.Context) error  { return nil }

// layers has functions that put layers over a store. able lists the abilities that the layers have
// over any store; lacks lists the abilities that they never have.
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
	s, err := compress.New(p, format, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func withBuffer(t *testing.T, slow partd.Partd) partd.Partd {
	b, err := partd.NewBuffer(partd.NewDict(), slow, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withServer returns a client of a server with a store.
func withServer(t *testing.T, store partd.Partd) partd.Partd {
	s, err := remote.NewServer(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	c, err := remote.Dial(t.Context(), remote.URL(l.Addr()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), s.Shutdown(context.Background()), <-done); err != nil {
			t.Error(err)
		}
	})
	return c
}

var abilityValues = map[string]string{"a": "one", "b": strings.Repeat("two", 90_000), "": "no key"}

func fillSome(t *testing.T, store partd.Partd) {
	t.Helper()
	for key, value := range abilityValues {
		if err := store.Append(t.Context(), partd.Entry{Key: key, Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
	}
}

// operations has a function for each operation. It returns the operation's error, or an error about a wrong result.
var operations = map[string]func(ctx context.Context, s partd.Partd) error{
	"keys": func(ctx context.Context, s partd.Partd) error {
		n := 0
		for k, err := range partd.Keys(ctx, s) {
			if err != nil {
				return err
			}
			if n++; k.Size != int64(len(abilityValues[k.Key])) {
				return fmt.Errorf("key %q has the size %d, want %d", k.Key, k.Size, len(abilityValues[k.Key]))
			}
		}
		return wantKeys(n)
	},
	"scan": func(ctx context.Context, s partd.Partd) error {
		got := map[string]string{}
		for c, err := range partd.Scan(ctx, s) {
			if err != nil {
				return err
			}
			got[c.Key] += string(c.Data)
			if want := abilityValues[c.Key]; c.Last != (len(got[c.Key]) == len(want)) {
				return fmt.Errorf("key %q: Last is %v after %d of %d bytes", c.Key, c.Last, len(got[c.Key]), len(want))
			}
		}
		if !maps.Equal(got, abilityValues) {
			return errors.New("the content differs")
		}
		return nil
	},
	"parts": func(ctx context.Context, s partd.Partd) error {
		got := map[string]string{}
		for part := range 3 {
			partValues := map[string]string{}
			for c, err := range partd.ScanPart(ctx, s, part, 3) {
				if err != nil {
					return err
				}
				partValues[c.Key] += string(c.Data)
			}
			for key, value := range partValues {
				got[key] += value
			}
		}
		if !maps.Equal(got, abilityValues) {
			return errors.New("the content differs")
		}
		return nil
	},
	"open": func(ctx context.Context, s partd.Partd) error {
		r, err := partd.Open(ctx, s, "b")
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		if string(b) != abilityValues["b"] {
			return fmt.Errorf("read %d bytes, want %d, or the content differs", len(b), len(abilityValues["b"]))
		}
		return errors.Join(err, r.Close())
	},
	"stat": func(ctx context.Context, s partd.Partd) error {
		st, err := partd.Stat(ctx, s)
		if err == nil && st.Bytes != int64(len(abilityValues["a"])+len(abilityValues["b"])+len(abilityValues[""])) {
			return fmt.Errorf("got the statistics %+v, want the bytes of all values", st)
		}
		return errors.Join(err, wantKeys(int(st.Keys)))
	},
	"set":      func(ctx context.Context, s partd.Partd) error { return partd.Set(ctx, s, "c", []byte("x")) },
	"set once": func(ctx context.Context, s partd.Partd) error { return partd.SetOnce(ctx, s, "c", []byte("x")) },
	"delete":   func(ctx context.Context, s partd.Partd) error { return partd.Delete(ctx, s, "a") },
	"pop": func(ctx context.Context, s partd.Partd) error {
		v, err := partd.Pop(ctx, s, "a")
		if err == nil && string(v[0]) != abilityValues["a"] {
			return fmt.Errorf("popped %q, want %q", v, abilityValues["a"])
		}
		return err
	},
	"flush": partd.Flush,
	"sync":  partd.Sync,
	"apply": func(ctx context.Context, s partd.Partd) error {
		a, ok := s.(partd.Applier)
		if !ok {
			return errors.ErrUnsupported
		}
		session, err := a.NewSession(ctx)
		if err != nil {
			return err
		}
		_, err = a.Apply(ctx, partd.Tag{Session: session, Number: 1}, partd.Operation{Entries: []partd.Entry{{Key: "c", Value: []byte("x")}}})
		return errors.Join(err, a.EndSession(ctx, session))
	},
	"close": partd.Close,
}

func wantKeys(n int) error {
	if n != len(abilityValues) {
		return fmt.Errorf("got %d keys, want %d", n, len(abilityValues))
	}
	return nil
}

// TestLayersKeepAbilities checks that a layer supports every operation that partd's functions support
// on the underlying store. Other operations must return an error that wraps errors.ErrUnsupported.
func TestLayersKeepAbilities(t *testing.T) {
	for layer, l := range layers {
		for abilities, limitTo := range partialStores {
			t.Run(layer+" over "+abilities, func(t *testing.T) {
				t.Parallel()
				for name, try := range operations {
					inner := limitTo(partd.NewDict())
					fillSome(t, inner)
					want := try(t.Context(), inner)
					if want != nil && !errors.Is(want, errors.ErrUnsupported) {
						t.Fatalf("%s without a layer = %v, want nil or ErrUnsupported", name, want)
					}
					store := l.addLayer(t, limitTo(partd.NewDict()))
					fillSome(t, store)
					got := try(t.Context(), store)
					supported := want == nil || strings.Contains(l.able, name)
					switch {
					case strings.Contains(l.lacks, name):
						supported = false
					case strings.Contains(layer, "z") && abilities == "stat" && name == "stat":
						supported = false // the store below knows only compressed sizes
					case strings.Contains(layer, "z") && strings.Contains(abilities, "scan") && (name == "keys" || name == "stat"):
						supported = got == nil // the layer can list keys by scanning values
					case layer == "a server" && abilities == "apply" && strings.Contains("set once delete", name):
						supported = true // the server uses Apply
					}
					if supported && got != nil || !supported && !errors.Is(got, errors.ErrUnsupported) {
						t.Errorf("%s = %v, want success: %t; without the layer it is %v", name, got, supported, want)
					}
				}
			})
		}
	}
}

// TestGroupOverLayers uses packages shuffle and encode with any layer over a store that can list its keys.
func TestGroupOverLayers(t *testing.T) {
	for layer, l := range layers {
		for _, abilities := range []string{"keys", "keys and open", "all"} {
			t.Run(layer+" over "+abilities, func(t *testing.T) {
				t.Parallel()
				store := l.addLayer(t, partialStores[abilities](partd.NewDict()))
				words := shuffle.Values("one", "two", "two", "three", "three", "three")
				n := 0
				for g, err := range shuffle.GroupBy(t.Context(), words, func(s string) string { return s }, &shuffle.Options[string]{Store: store}) {
					if err != nil {
						t.Fatal(err)
					}
					list, err := shuffle.Collect(g.Values)
					if err != nil || len(list) != map[string]int{"one": 1, "two": 2, "three": 3}[g.Key] {
						t.Fatalf("group %s has the values %q, error %v, want one: 1, two: 2, three: 3 values", g.Key, list, err)
					}
					n++
				}
				if n != 3 {
					t.Fatalf("GroupBy yielded %d groups, want 3", n)
				}
				typed := encode.New(l.addLayer(t, partialStores[abilities](partd.NewDict())), encode.JSON[[]int]())
				if err := typed.Append(t.Context(), encode.Entry[[]int]{Key: "k", Value: []int{1}}); err != nil {
					t.Fatal(err)
				}
				for k, err := range typed.Keys(t.Context()) {
					if err != nil || k.Key != "k" {
						t.Fatalf("Keys yielded %v, %v, want k", k, err)
					}
				}
				for v, err := range typed.All(t.Context(), "k") {
					if err != nil || len(v) != 1 {
						t.Fatalf("All yielded %v, %v, want one number", v, err)
					}
				}
				scanned := 0
				for part := range 2 {
					for g, err := range typed.ScanPart(t.Context(), part, 2) {
						if list, listErr := shuffle.Collect(g.Values); err != nil || listErr != nil || g.Key != "k" || len(list) != 1 {
							t.Fatalf("ScanPart yielded key %q with %v, %v, %v, want k with one value", g.Key, list, err, listErr)
						}
						scanned++
					}
				}
				if scanned != 1 {
					t.Fatalf("the key is in %d of 2 parts, want 1", scanned)
				}
			})
		}
	}
}

// TestFallbacks runs partdtest on stores with few abilities, for which partd's functions have
// fallbacks. With a layer above, it runs only the state machine unless PARTD_REQUIRE_ALL is set.
func TestFallbacks(t *testing.T) {
	for _, abilities := range []string{"keys", "keys and open", "keys and scan"} {
		for _, layer := range []string{"nothing", "zstd", "buffer"} {
			t.Run(layer+" over "+abilities, func(t *testing.T) {
				run := partdtest.StateMachine
				if layer == "nothing" || os.Getenv("PARTD_REQUIRE_ALL") != "" {
					run = partdtest.Run
				}
				run(t, func(t *testing.T) partd.Partd {
					return layers[layer].addLayer(t, partialStores[abilities](partd.NewDict()))
				}, &partdtest.Options{
					Require:     []partdtest.Ability{partdtest.CanList, partdtest.CanScan, partdtest.CanStat},
					MachineRuns: 5, LargeValue: 1 << 20,
				})
			})
		}
	}
}
