package stores_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/compress/blosc"
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/remote/tokens"
	"github.com/go-partd/partd/shards"
	"github.com/go-partd/partd/storekit"
	"github.com/go-partd/partd/stores"
)

// TestErrorsNameTheirStore checks that errors name the store: its directory, or else its kind.
func TestErrorsNameTheirStore(t *testing.T) {
	canceledCtx, cancel := context.WithCancel(t.Context())
	cancel()
	entry := partd.Entry{Key: "a", Value: []byte("1")}
	dict := partd.NewDict()
	buffer := must.Get(partd.NewBuffer(partd.NewDict(), partd.NewDict(), nil))(t)
	defer buffer.Close()
	layer := must.Get(compress.New(partd.NewDict(), compress.Zstd, nil))(t)
	dir := t.TempDir()
	file := must.Get(partd.OpenFile(dir, nil))(t)
	defer file.Close()
	_, fileErr := file.Apply(t.Context(), partd.Tag{Session: 9, Number: 1}, partd.Operation{Change: partd.ChangeDrop})
	closedDict := partd.NewDict()
	_, sessionErr := dict.Apply(t.Context(), partd.Tag{Session: 9, Number: 1}, partd.Operation{Change: partd.ChangeDrop})
	must.Do(t, closedDict.Close())
	_, closedErr := closedDict.Get(t.Context(), "a")
	_, zeroErr := new(partd.Buffer).Get(t.Context(), "a")
	var damagedErr error
	if err := layer.Unwrap().Append(t.Context(), entry); err == nil {
		_, damagedErr = layer.Get(t.Context(), "a")
	}
	for _, c := range []struct {
		store string
		err   error
	}{
		{"Dict", dict.Append(canceledCtx, entry)},
		{"Dict", dict.Drop(canceledCtx)},
		{"Dict", closedErr},
		{"Dict", sessionErr},
		{dir, file.Append(canceledCtx, entry)},
		{dir, fileErr},
		{"Buffer", buffer.Append(canceledCtx, entry)},
		{"Buffer", buffer.Drop(canceledCtx)},
		{"Buffer", zeroErr},
		{"zstd layer", layer.Append(canceledCtx, entry)},
		{"zstd layer", damagedErr},
		{"layer", new(compress.Store).Append(t.Context(), entry)},
	} {
		var e *partd.Error
		if !errors.As(c.err, &e) || e.Path != c.store || !strings.Contains(c.err.Error(), c.store) {
			t.Errorf("the error of a store does not name %s as its path: %v", c.store, c.err)
		}
	}
}

// TestZeroValuesOfAllPackages checks that methods of zero values return errors and do not panic.
func TestZeroValuesOfAllPackages(t *testing.T) {
	storetest.CheckZero(t, map[string]any{
		"Dict": new(partd.Dict), "File": new(partd.File), "Buffer": new(partd.Buffer),
		"logstore.Store": new(logstore.Store), "compress.Store": new(compress.Store),
		"encode.Store": new(encode.Store[int]), "encode.New(nil, nil)": encode.New(nil, encode.ValueCodec[int]{}),
		"encode.New(Dict, zero)": encode.New(partd.NewDict(), encode.ValueCodec[int]{}), "encode.NumPy": new(encode.NumPy[float64]),
		"encode.NewNumPy(nil)": encode.NewNumPy[float64](nil), "encode.PandasColumns": new(encode.PandasColumns), "encode.NewPandasColumns(nil)": encode.NewPandasColumns(nil, nil), "remote.Client": new(remote.Client), "shards.Shards": new(shards.Shards),
		"remote.Server": new(remote.Server), "tokens.Users": new(tokens.Users), "tokens.Grant": tokens.Grant{}, "blosc.Decoder": new(blosc.Decoder), "blosc.Encoder": new(blosc.Encoder),
		"Error": new(partd.Error), "CorruptError": new(partd.CorruptError), "encode.DecodeError": new(encode.DecodeError), "PopError": new(storekit.PopError),
		"encode.Range": encode.Range{}, "encode.DataFrame": encode.DataFrame{},
	}, "*")
}

func TestNilStore(t *testing.T) {
	ctx := t.Context()
	errOnly := func(_ any, err error) error { return err }
	storetest.CheckErrors(t, map[string]func() error{
		"Apply":    func() error { return errOnly(partd.Apply(ctx, nil, partd.Tag{}, partd.Operation{})) },
		"Check":    func() error { return errOnly(partd.Check(ctx, nil)) },
		"Close":    func() error { return partd.Close(ctx, nil) },
		"Copy":     func() error { return errOnly(partd.Copy(ctx, partd.NewDict(), nil, nil)) },
		"Copy to":  func() error { return errOnly(partd.Copy(ctx, nil, partd.NewDict(), nil)) },
		"Delete":   func() error { return partd.Delete(ctx, nil, "a") },
		"Flush":    func() error { return partd.Flush(ctx, nil) },
		"Has":      func() error { return errOnly(partd.Has(ctx, nil, "a")) },
		"Keys":     func() error { return storetest.FirstError(partd.Keys(ctx, nil)) },
		"Open":     func() error { return errOnly(partd.Open(ctx, nil, "a")) },
		"Pop":      func() error { return errOnly(partd.Pop(ctx, nil, "a")) },
		"Scan":     func() error { return storetest.FirstError(partd.Scan(ctx, nil)) },
		"ScanPart": func() error { return storetest.FirstError(partd.ScanPart(ctx, nil, 0, 2)) },
		"Set":      func() error { return partd.Set(ctx, nil, "a", nil) },
		"SetOnce":  func() error { return partd.SetOnce(ctx, nil, "a", nil) },
		"Stat":     func() error { return errOnly(partd.Stat(ctx, nil)) },
		"Sync":     func() error { return partd.Sync(ctx, nil) },

		"NewBuffer":    func() error { return errOnly(partd.NewBuffer(nil, nil, nil)) },
		"compress.New": func() error { return errOnly(compress.New(nil, compress.Zstd, nil)) },
		"NewServer":    func() error { return errOnly(remote.NewServer(nil, nil)) },
		"encode.New": func() error {
			return encode.New(nil, encode.JSON[int]()).Append(ctx, encode.Entry[int]{Key: "a", Value: 1})
		},
		"zero codec": func() error {
			return encode.New(partd.NewDict(), encode.ValueCodec[int]{}).Append(ctx, encode.Entry[int]{Key: "a", Value: 1})
		},
		"Authenticate": func() error { return errOnly(new(tokens.Users).Authenticate("a", nil)) },
	})
}

// TestZeroStores checks that a zero Dict is an empty store, and that other zero values count as closed.
func TestZeroStores(t *testing.T) {
	ctx := t.Context()
	var d partd.Dict
	must.Do(t, d.Append(ctx, partd.Entry{Key: "a", Value: []byte("1")}))
	if got, err := d.Get(ctx, "a"); err != nil || string(got[0]) != "1" {
		t.Errorf("Get(a) from a zero Dict = %q, %v, want 1", got, err)
	}
	for name, store := range map[string]partd.Partd{
		"File": new(partd.File), "Buffer": new(partd.Buffer), "logstore": new(logstore.Store),
		"compress": new(compress.Store), "remote": new(remote.Client), "shards": new(shards.Shards),
	} {
		_, getErr := store.Get(ctx, "a")
		for op, err := range map[string]error{"append": store.Append(ctx, partd.Entry{Key: "a", Value: []byte("1")}), "get": getErr, "drop": store.Drop(ctx)} {
			must.Fail(t, err, partd.ErrClosed, "%s of a zero %s", op, name)
		}
	}
}

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
	t.Cleanup(func() { must.Do(t, errors.Join(c.Close(), s.Shutdown(context.Background()), <-done)) })
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

// flushCounter is a store whose Flush fails with err. Its Close does not flush.
type flushCounter struct {
	*partd.Dict
	err     atomic.Pointer[error]
	flushes atomic.Int64
}

// newFlushCounter returns a store whose Flush fails until the test ends, so that its server can be shut down.
func newFlushCounter(t *testing.T, err error) (store *flushCounter, client partd.Partd) {
	store = &flushCounter{Dict: partd.NewDict()}
	store.err.Store(&err)
	client = withServer(t, store)
	t.Cleanup(func() { store.err.Store(new(error)) })
	return store, client
}

func (f *flushCounter) Flush(context.Context) error {
	f.flushes.Add(1)
	return *f.err.Load()
}

// TestCloseReportsFlush checks that Close makes a server flush once, whatever layers are over the client. It must
// return the server's error and close the connection.
func TestCloseReportsFlush(t *testing.T) {
	ctx := t.Context()
	over := map[string]func(t *testing.T, client, other partd.Partd) partd.Partd{
		"nothing":            func(_ *testing.T, p, _ partd.Partd) partd.Partd { return p },
		"zstd over a buffer": func(t *testing.T, p, _ partd.Partd) partd.Partd { return layers["zstd over a buffer"].addLayer(t, p) },
		"a server":           func(t *testing.T, p, _ partd.Partd) partd.Partd { return withServer(t, p) },
		"zstd over shards of buffers": func(t *testing.T, p, other partd.Partd) partd.Partd {
			both := []partd.Partd{withBuffer(t, p), withBuffer(t, other)}
			return withCompression(t, must.Get(shards.New([]string{"a", "b"}, both))(t), compress.Zstd)
		},
	}
	noAccess := &fs.PathError{Op: "write", Path: "f", Err: syscall.EACCES}
	for name, add := range over {
		for _, c := range []struct{ err, want error }{
			{nil, nil}, {errors.ErrUnsupported, nil}, {fs.ErrPermission, nil}, {syscall.ENOSPC, syscall.ENOSPC}, {noAccess, errAny},
		} {
			t.Run(fmt.Sprint(name, " ", c.err), func(t *testing.T) {
				bottom, client := newFlushCounter(t, c.err)
				_, other := newFlushCounter(t, fs.ErrPermission)
				store := add(t, client, other)
				t.Cleanup(func() { bottom.err.Store(new(error)) }) // before a server in the middle flushes and ends
				must.Do(t, store.Append(ctx, partd.Entry{Key: "a", Value: []byte("1")}, partd.Entry{Key: "b", Value: []byte("1")}))
				err := partd.Close(ctx, store)
				if (err == nil) != (c.want == nil) || c.want != errAny && !errors.Is(err, c.want) || errors.Is(err, fs.ErrPermission) && c.want != nil {
					t.Errorf("Close = %v, want %v", err, c.want)
				}
				if n := bottom.flushes.Load(); n != 1 {
					t.Errorf("the server got %d requests to flush, want 1", n)
				}
				if name != "a server" { // the client of the inner server stays open
					must.Fail(t, client.Append(ctx, partd.Entry{Key: "b", Value: []byte("1")}), partd.ErrClosed, "Append after Close")
				}
			})
		}
	}
	bottom, client := newFlushCounter(t, syscall.ENOSPC)
	must.Fail(t, encode.New(client, encode.JSON[int]()).Close(), syscall.ENOSPC, "Close of values over a server")
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	client = withServer(t, bottom)
	t.Cleanup(func() { bottom.err.Store(new(error)) })
	must.Fail(t, partd.Close(canceled, client), context.Canceled, "Close with an ended context")
	must.Fail(t, client.Drop(ctx), partd.ErrClosed, "Drop after Close with an ended context")
	if n := bottom.flushes.Load(); n != 1 {
		t.Errorf("the server got %d requests to flush, want 1", n)
	}
}

var errAny = errors.New("any error")

// TestZeroValues checks that a zero Set has this package's schemes, and an incomplete Scheme returns errors.
func TestZeroValues(t *testing.T) {
	storetest.CheckZero(t, map[string]any{
		"Set": new(stores.Set), "Set(nil)": (*stores.Set)(nil), "URLError": new(stores.URLError),
		"a zero Scheme": stores.NewSet(stores.Scheme{}),
	}, "Unwrap")
	ctx, errOf := t.Context(), func(_ any, err error) error { return err }
	open := func(context.Context, string, map[string]string) (partd.Partd, error) { return nil, nil }
	exists := func(string, map[string]string) (bool, error) { return true, nil }
	storetest.CheckErrors(t, map[string]func() error{
		"Open without a URL":   func() error { return errOf(stores.Open(ctx, "")) },
		"Exists without a URL": func() error { return errOf(stores.NewSet().Exists("")) },
		"a Scheme without Open": func() error {
			return errOf(stores.NewSet(stores.Scheme{Name: "s9"}).Open(ctx, "s9://a", nil))
		},
		"a Scheme without Exists": func() error {
			return errOf(stores.NewSet(stores.Scheme{Name: "s9", Open: open}).Exists("s9://a"))
		},
		"a Scheme whose store is nil": func() error {
			return errOf(stores.NewSet(stores.Scheme{Name: "s9", Open: open, Exists: exists}).Open(ctx, "s9://a", nil))
		},
	})
	set := stores.NewSet(stores.Scheme{Name: "s9", Open: open, Exists: exists, Options: []stores.Option{{Name: "x"}}})
	if exists, err := set.Exists("s9://a?x=1"); !exists || err != nil {
		t.Errorf("Exists with an option without Check = %v, %v, want true", exists, err)
	}
	if store, err := new(stores.Set).Open(ctx, "mem:", nil); err != nil {
		t.Errorf("Open(mem:) with a zero Set = %v, %v, want a store", store, err)
	}
}
