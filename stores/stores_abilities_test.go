package stores_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

var abilityValues = map[string]string{"a": "one", "b": strings.Repeat("two", 30_000), "": "no key"}

func fillSome(t *testing.T, store partd.Partd) {
	t.Helper()
	for key, value := range abilityValues {
		must.Do(t, store.Append(t.Context(), partd.Entry{Key: key, Value: []byte(value)}))
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
		return errors.Join(addChunks(got, partd.Scan(ctx, s)), wantContent(got))
	},
	"parts": func(ctx context.Context, s partd.Partd) error {
		got := map[string]string{}
		for part := range 3 {
			if err := addChunks(got, partd.ScanPart(ctx, s, part, 3)); err != nil {
				return err
			}
		}
		return wantContent(got)
	},
	"open": func(ctx context.Context, s partd.Partd) error {
		r, err := partd.Open(ctx, s, "b")
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		if string(b) != abilityValues["b"] {
			return fmt.Errorf("read the wrong content: %d bytes, want %d", len(b), len(abilityValues["b"]))
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

// addChunks appends the data of chunks to their keys' values.
func addChunks(values map[string]string, chunks iter.Seq2[partd.Chunk, error]) error {
	for c, err := range chunks {
		if err != nil {
			return err
		}
		values[c.Key] += string(c.Data)
		if n, want := len(values[c.Key]), len(abilityValues[c.Key]); c.Last != (n == want) {
			return fmt.Errorf("key %q: Last is %v after %d of %d bytes", c.Key, c.Last, n, want)
		}
	}
	return nil
}

func wantContent(got map[string]string) error {
	if !maps.Equal(got, abilityValues) {
		return errors.New("the content differs")
	}
	return nil
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
						t.Errorf("%s = %v, want success: %t; without the layer, the error is %v", name, got, supported, want)
					}
				}
			})
		}
	}
}

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
