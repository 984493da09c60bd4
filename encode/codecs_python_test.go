package encode

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/testutil/must"
)

// The following functions return the same values as testdata/interop.py.

func bigPower(base, exponent int64) *big.Int {
	return new(big.Int).Exp(big.NewInt(base), big.NewInt(exponent), nil)
}

func plainList() []any {
	return []any{
		nil, true, false, 0, -1, 200, 1 << 40, math.MinInt64, uint64(math.MaxUint64), 1.5, math.Inf(1),
		"text \u00e9 \U0001f600", []byte("\x00\xff"),
		[]any{1, []any{2, []any{}}},
		PyDict{{Key: "a", Value: 1}, {Key: "b", Value: []any{nil}}, {Key: []byte("c"), Value: PyDict{}}},
	}
}

func richList() []any {
	shared := []any{"used", "twice"}
	return append(
		plainList(), PyTuple{1, "t"}, PyTuple{},
		PyDict{{Key: PyTuple{1, 2}, Value: "x"}, {Key: 3, Value: []byte("y")}}, PySet{7}, PyFrozenSet{"f"}, PyByteArray("ba"),
		bigPower(2, 100), new(big.Int).Neg(bigPower(2, 3000)), shared, shared,
	)
}

func fallbackList() []any {
	return []any{bigPower(2, 100), PyTuple{1, 2}, PySet{7}, PyDict{{Key: 1, Value: "int"}}}
}

// pythonStores returns, for each key of interop.py, a Store over inner that can read the key, and the key's values.
func pythonStores(t testing.TB, inner partd.Partd) map[string]struct {
	store  *Store[[]any]
	values []any
} {
	type s = struct {
		store  *Store[[]any]
		values []any
	}
	return map[string]s{
		"python":   {New(inner, Python()), plainList()},
		"fallback": {New(inner, Python()), fallbackList()},
		"pickle":   {New(inner, Pickle()), richList()},
		"bz2":      {New(withCompression(t, inner, compress.BZ2), Pickle()), richList()},
		"snappy":   {New(withCompression(t, inner, compress.Snappy), Pickle()), richList()},
		"zlib":     {New(withCompression(t, inner, compress.Zlib), Pickle()), richList()},
		"blosc":    {New(withCompression(t, inner, compress.Blosc), Pickle()), richList()},
		"layers":   {New(withCompression(t, withCompression(t, inner, compress.Snappy), compress.BZ2), Python()), plainList()},
	}
}

// arrayCheck returns a function that checks the array np_NAME. If write is true, it first writes the array.
func arrayCheck[T Element](name string, values ...T) func(t *testing.T, inner partd.Partd, write bool) {
	return func(t *testing.T, inner partd.Partd, write bool) {
		t.Helper()
		store, key, ctx := NewNumPy[T](inner), "np_"+name, t.Context()
		if write {
			must.Do(t, store.Append(ctx, Entry[[]T]{key, values[:1]}))
			must.Do(t, store.Append(ctx, Entry[[]T]{key, nil}, Entry[[]T]{key, values[1:]}))
		}
		got := must.Get(store.Get(ctx, key))(t)
		if fmt.Sprint(got[0]) != fmt.Sprint(values) {
			t.Errorf("the array %s is %v, want %v", name, got[0], values)
		}
	}
}

var year1900 = time.Date(1900, 2, 3, 4, 5, 6, 7e8, time.UTC)

var allArrays = []func(*testing.T, partd.Partd, bool){
	arrayCheck[int8]("i1", -128, -1, 0, 127),
	arrayCheck[int16]("i2", math.MinInt16, -1, 0, math.MaxInt16),
	arrayCheck[int32]("i4", math.MinInt32, -1, 0, math.MaxInt32),
	arrayCheck[int64]("i8", math.MinInt64, -1, 0, math.MaxInt64),
	arrayCheck[uint8]("u1", 0, 1, 255),
	arrayCheck[uint16]("u2", 0, 1, math.MaxUint16),
	arrayCheck[uint32]("u4", 0, 1, math.MaxUint32),
	arrayCheck[uint64]("u8", 0, 1, math.MaxUint64),
	arrayCheck[Float16]("f2", 0x3800, 0xc000, 0x7bff, 1),
	arrayCheck[float32]("f4", 0.5, -2.25, 1e38),
	arrayCheck("f8", 0.1, -2.25, 1e300),
	arrayCheck("c8", 1+2i, complex64(complex(math.Copysign(0, -1), -0.5))),
	arrayCheck("c16", 0.1+2i, complex(math.Copysign(0, -1), -1e300)),
	arrayCheck("b1", true, false, true),
	arrayCheck("M8(ns)", time.Unix(0, 1).UTC(), year1900, time.Time{}),
	arrayCheck[time.Duration]("m8(ns)", 1, -1<<62),
	arrayCheck("O", "text", "", "\u00e9\U0001f600"),
}

// bigArrays checks big-endian arrays, which Go reads and extends, but never creates.
var bigArrays = []func(*testing.T, partd.Partd, bool){
	arrayCheck[int64]("big_i8", math.MinInt64, -1, 0, math.MaxInt64),
	arrayCheck[uint16]("big_u2", 0, 1, math.MaxUint16),
	arrayCheck[float32]("big_f4", 0.5, -2.25, 1e38),
	arrayCheck("big_c16", 0.1+2i, complex(math.Copysign(0, -1), -1e300)),
	arrayCheck("big_M8(ns)", time.Unix(0, 1).UTC(), year1900, time.Time{}),
}

// forEachStore runs a test over a directory and over a server. dir is the directory or the server's URL.
func forEachStore(t *testing.T, test func(t *testing.T, inner partd.Partd, dir string)) {
	t.Helper()
	t.Run("File", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "store")
		test(t, openFile(t, dir), dir)
	})
	t.Run("Client", func(t *testing.T) {
		url := serve(t)
		test(t, dial(t, url), url)
	})
}

func TestPythonReadsGo(t *testing.T) { forEachStore(t, pythonReadsGo) }

func pythonReadsGo(t *testing.T, inner partd.Partd, dir string) {
	for key, s := range pythonStores(t, inner) {
		must.Do(t, s.store.Append(t.Context(), Entry[[]any]{key, s.values[:3]}, Entry[[]any]{key, s.values[3:]}))
	}
	for _, a := range allArrays {
		a(t, inner, true)
	}
	for name, dtype := range map[string]string{"i8": ">i8", "u2": ">u2", "f4": ">f4", "c16": ">c16", "M8(ns)": ">M8[ns]"} {
		must.Do(t, partd.SetOnce(t.Context(), inner, "np_big_"+name+".dtype", []byte(dtype)))
	}
	for _, a := range bigArrays {
		a(t, inner, true)
	}
	if out := runInterop(t, "check", dir); out != "done\n" {
		t.Fatalf("interop.py check printed %s", out)
	}
}

// TestGoReadsPython checks that Go reads all values that Python has written, and can append to their keys.
func TestGoReadsPython(t *testing.T) { forEachStore(t, goReadsPython) }

func goReadsPython(t *testing.T, inner partd.Partd, dir string) {
	runInterop(t, "write", dir)
	for key, s := range pythonStores(t, inner) {
		got := must.Get(s.store.Get(t.Context(), key))(t)
		if plainText(got[0]) != plainText(s.values) {
			t.Errorf("Get(%s) = %v, want %v", key, got[0], s.values)
		}
		must.Do(t, s.store.Append(t.Context(), Entry[[]any]{key, []any{"from Go"}}))
		got = must.Get(s.store.Get(t.Context(), key))(t)
		if n := len(got[0]); n != len(s.values)+1 || got[0][n-1] != "from Go" {
			t.Errorf("Get(%s) = %v, want Python's values and Go's", key, got[0])
		}
	}
	for _, a := range append(allArrays, bigArrays...) {
		a(t, inner, false)
	}
	floats := NewNumPy[float32](inner)
	for _, key := range []string{"np_f4", "np_big_f4"} {
		must.Do(t, floats.Append(t.Context(), Entry[[]float32]{key, []float32{7.5}}))
		if got := must.Get(floats.Get(t.Context(), key))(t); fmt.Sprint(got[0]) != "[0.5 -2.25 1e+38 7.5]" {
			t.Errorf("the array %s is %v, want Python's elements and 7.5", key, got[0])
		}
	}
	for unit, want := range map[string]string{
		"us": "1600-02-03T04:05:06.789012Z", "ms": "1969-12-31T23:59:59.999Z", "s": "3000-01-01T00:00:01Z",
		"m": "1900-01-01T00:59:00Z", "h": "1900-01-01T23:00:00Z", "D": "1900-02-03T00:00:00Z", "W": "2024-01-04T00:00:00Z",
	} {
		parsed := must.Get(time.Parse(time.RFC3339Nano, want))(t)
		arrayCheck("M8("+unit+")", parsed, time.Time{})(t, inner, false)
	}
	got, err := New(inner, Python()).Get(t.Context(), "intkeys")
	must.Do(t, err)
	if want := []any{PyDict{{Key: 1, Value: "one"}, {Key: nil, Value: 2.5}}}; plainText(got[0]) != plainText(want) {
		t.Errorf("Get of a dict with integer keys = %v, want %v", got[0], want)
	}
	_, err = NewNumPy[string](inner).Get(t.Context(), "np_none")
	if !errors.As(err, new(*DecodeError)) || !strings.Contains(err.Error(), "element 1 is a None") {
		t.Errorf("Get of an array with None = %v, want a DecodeError for element 1", err)
	}
}

// TestFloat16AgainstNumPy checks that NumPy reads the bits of each Float16.
func TestFloat16AgainstNumPy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	halves := make([]Float16, 1<<16)
	for i := range halves {
		halves[i] = Float16(i)
	}
	must.Do(t, NewNumPy[Float16](openFile(t, dir)).Append(t.Context(), Entry[[]Float16]{"all", halves}))
	if out := runInterop(t, "halves", dir); out != "done\n" {
		t.Fatalf("interop.py halves printed %s", out)
	}
}
