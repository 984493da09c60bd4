package compress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/storekit"
)

// TestPooledStateIsNotShared checks that values that are compressed and decompressed concurrently, some
// of them damaged, do not affect each other through pooled encoders and decoders.
func TestPooledStateIsNotShared(t *testing.T) {
	for _, format := range Formats() {
		t.Run(string(format), func(t *testing.T) {
			s := newStore(t, partd.NewDict(), format, nil)
			values := [][]byte{[]byte("a"), randomText(300), make([]byte, 5000), bytes.Repeat([]byte("xyz"), 70_000), randomText(100_000)}
			if format == BZ2 {
				values = values[:3]
			}
			damaged := frame.Append(nil, pack(t, format, randomText(5000)))
			damaged = damaged[:len(damaged)-5]
			must.Do(t, partd.Set(t.Context(), s.Unwrap(), "damaged", damaged))
			must.Concurrently(6, func(g int) {
				for i := range 8 {
					v := values[(g+i)%len(values)]
					key := fmt.Sprintf("%d.%d", g, i)
					batch := []partd.Entry{{Key: key, Value: v}, {Key: key + "+", Value: values[g%2]}, {Key: key, Value: v}}
					must.Check(t, s.Append(t.Context(), batch...))
					if _, err := s.Get(t.Context(), key, "damaged"); err == nil {
						t.Error("Get of a damaged value succeeded")
					}
					r, err := s.Open(t.Context(), key)
					if !must.Check(t, err) {
						return
					}
					if i%3 == 0 { // stop in the middle
						_, _ = r.Read(make([]byte, 1))
						_ = r.Close()
					} else if data, err := io.ReadAll(r); err != nil || !bytes.Equal(data, append(bytes.Clone(v), v...)) {
						t.Errorf("reading with Open = %d bytes, %v, want twice the value of %d bytes", len(data), err, len(v))
					}
					got, err := s.Get(t.Context(), key+"+", key)
					if err != nil || !bytes.Equal(got[0], values[g%2]) || !bytes.Equal(got[1], append(bytes.Clone(v), v...)) {
						t.Errorf("Get returned wrong values, %v", err)
					}
				}
			})
		})
	}
}

// TestLimitSplitsValues checks that a value over the limit is stored as several pieces, an empty value as none, and that a
// piece over the limit by one byte cannot be read.
func TestLimitSplitsValues(t *testing.T) {
	for _, format := range Formats() {
		dict := partd.NewDict()
		s := newStore(t, dict, format, &Options{Limit: 1000})
		value := randomText(4321)
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: value}, partd.Entry{Key: "empty"}))
		stored := must.Get(dict.Get(t.Context(), "k", "empty"))(t)
		pieces := 0
		for _, err := range frame.Split(stored[0]) {
			must.Do(t, err)
			pieces++
		}
		got := must.Get(s.Get(t.Context(), "k"))(t)
		if pieces != 5 || len(stored[1]) > 0 || !bytes.Equal(got[0], value) {
			t.Errorf("%s: %d bytes in %d pieces, and an empty value in %d bytes, want %d bytes in 5 pieces", format, len(got[0]), pieces, len(stored[1]), len(value))
		}
		if _, err := newStore(t, dict, format, &Options{Limit: 999}).Get(t.Context(), "k"); !errors.As(err, new(*partd.CorruptError)) {
			t.Errorf("%s: Get of a piece over the limit by one byte = %v, want a CorruptError", format, err)
		}
	}
}

// TestStreamsInBoundedMemory checks that Open, Scan and Keys do not hold a piece of 24 MiB in memory.
func TestStreamsInBoundedMemory(t *testing.T) {
	const size = 24 << 20
	for _, format := range []Format{S2, Zstd, LZ4, Zlib, Gzip} {
		file := must.Get(partd.OpenFile(t.TempDir(), nil))(t)
		s := newStore(t, file, format, nil)
		value := bytes.Repeat(randomText(1<<20), size>>20)
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: value}))
		for method, read := range streamingReads(t.Context(), s) {
			if method == "Get" {
				continue
			}
			used := procs.Allocated(func() {
				if n, err := read(); n != size || err != nil {
					t.Errorf("%s: %s = %d bytes, %v, want %d", format, method, n, err, size)
				}
			})
			// zstd keeps a window of 8 MiB, and the underlying store its buffers.
			if used > 16<<20 {
				t.Errorf("%s: %s of %d MiB allocated %d bytes, want at most 16 MiB", format, method, size>>20, used)
			}
		}
		must.Do(t, s.Close())
	}
}

func TestOptions(t *testing.T) {
	dict := partd.NewDict()
	s := newStore(t, dict, Zstd, nil)
	if _, ok := partd.As[partd.MemoryUser](s); !ok || s.Unwrap() != partd.Partd(dict) || s.Format() != Zstd {
		t.Errorf("As, Unwrap and Format returned %v, %T and %s, want the Dict's MemoryUser, the Dict and zstd", ok, s.Unwrap(), s.Format())
	}
	for _, c := range []struct {
		inner  partd.Partd
		format Format
		opts   Options
		want   string
	}{
		{nil, Zstd, Options{}, "is nil"},
		{dict, "lzma", Options{}, "unknown format"},
		{dict, Snappy, Options{Level: 1}, "no levels"},
		{dict, Zstd, Options{Level: 23}, "1 to 22"},
		{dict, S2, Options{Level: -1}, "1 to 3"},
		{dict, LZ4, Options{Level: 11}, "1 to 10"},
		{dict, Gzip, Options{Level: 10}, "1 to 9"},
		{dict, BZ2, Options{Level: 10}, "1 to 9"},
		{dict, Zlib, Options{TypeSize: 4}, "of blosc, not of zlib"},
		{dict, Blosc, Options{TypeSize: 300}, "1 to 255"},
		{dict, S2, Options{Limit: -1}, "a Limit of -1 bytes"},
		{dict, S2, Options{Limit: 1 << 31}, "a Limit of 2147483648 bytes"},
	} {
		must.Fail(t, must.Err(New(c.inner, c.format, &c.opts)), c.want, "New(%s, %+v)", c.format, c.opts)
	}
}

// TestLevels encodes and decodes with every level. The highest level must compress better than the lowest.
func TestLevels(t *testing.T) {
	for format, maxLevel := range map[Format]int{S2: 3, Zstd: 22, LZ4: 10, Zlib: 9, Gzip: 9, BZ2: 9, Blosc: 9} {
		if got := format.MaxLevel(); got != maxLevel {
			t.Errorf("%s.MaxLevel() = %d, want %d", format, got, maxLevel)
		}
		value := randomText(40_000)
		sizes := map[int]int{}
		for level := 1; level <= maxLevel; level++ {
			s := newStore(t, partd.NewDict(), format, &Options{Level: level})
			piece := must.Get(s.codec.encode(nil, value))(t)
			got, err := s.codec.decode(t.Context(), nil, piece)
			if err != nil || !bytes.Equal(got, value) {
				t.Errorf("%s, level %d: decoding returned %d bytes, error %v; want the %d encoded bytes", format, level, len(got), err, len(value))
			}
			sizes[level] = len(piece)
		}
		if sizes[maxLevel] >= sizes[1] && format != BZ2 { // BZ2's smallest block already holds the value
			t.Errorf("%s: level 1 compresses to %d bytes, and level %[4]d to %[3]d, want fewer", format, sizes[1], sizes[maxLevel], maxLevel)
		}
	}
}

// countingDict is a Dict that counts its appends and pops.
type countingDict struct {
	*partd.Dict
	changes int
	damage  func() // if not nil, Pop calls it before it removes the keys
	cancel  func() // if not nil, Pop calls it after it removed the keys
}

func (c *countingDict) Append(ctx context.Context, entries ...partd.Entry) error {
	c.changes++
	return c.Dict.Append(ctx, entries...)
}

func (c *countingDict) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	c.changes++
	if c.damage != nil {
		c.damage()
	}
	if c.cancel != nil {
		defer c.cancel()
	}
	return c.Dict.Pop(ctx, keys...)
}

// TestDamagedPop checks that Pop detects damage before it removes anything. If it removed the values
// first and appended them again after an error, a key with an empty value would be lost. On a full
// disk, or if the process were killed, all values would be lost.
func TestDamagedPop(t *testing.T) {
	dict := &countingDict{Dict: partd.NewDict()}
	s := newStore(t, dict, Snappy, nil)
	good := frame.Append(nil, pack(t, Snappy, []byte("good")))
	set := func(key string, value []byte) {
		t.Helper()
		must.Do(t, dict.Set(t.Context(), key, value))
	}
	set("good", good)
	set("bad", []byte("rubbish"))
	set("empty", nil)
	check := func(bad string) {
		t.Helper()
		v, err := dict.Get(t.Context(), "good", "bad")
		if err != nil || !bytes.Equal(v[0], good) || string(v[1]) != bad {
			t.Errorf("after Pop, the store has %q, %v, want the original values", v, err)
		}
	}
	if v, err := s.Pop(t.Context(), "good", "empty", "bad", "good"); v != nil || !errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("Pop with a damaged value = %q, %v, want a CorruptError", v, err)
	}
	check("rubbish")
	if st, err := dict.Stat(t.Context()); err != nil || st.Keys != 3 || dict.changes > 0 {
		t.Errorf("after Pop, Stat = %+v, %v, and there were %d changes, want 3 keys and no change", st, err, dict.changes)
	}
	// If a value is damaged after Pop has checked it, the error has the popped values. They are not appended again,
	// because others may have appended to the keys since.
	set("bad", good)
	dict.damage, dict.changes = func() { set("bad", []byte("more rubbish")) }, 0
	v, err := s.Pop(t.Context(), "good", "bad", "good")
	lost, ok := errors.AsType[*storekit.PopError](err)
	if v != nil || !ok || !errors.As(err, new(*partd.CorruptError)) || dict.changes != 1 {
		t.Fatalf("Pop of a value that was damaged after its check = %q, %v after %d changes, want a PopError with a CorruptError after 1", v, err, dict.changes)
	}
	if got := lost.Values; !slices.Equal(lost.Keys, []string{"good", "bad", "good"}) || !bytes.Equal(got[0], good) || string(got[1]) != "more rubbish" {
		t.Errorf("the PopError has %q of %q, want the popped values", got, lost.Keys)
	}
	must.Do(t, lost.Restore(t.Context()))
	check("more rubbish")
	// A piece that is appended after Pop has checked the value is also popped.
	set("bad", good)
	dict.damage = func() { set("bad", append(good, good...)) }
	if v, err := s.Pop(t.Context(), "good", "bad"); err != nil || string(v[0]) != "good" || string(v[1]) != "goodgood" {
		t.Errorf("Pop of a value that grew after its check = %q, %v, want good and goodgood", v, err)
	}
}

// failing is a store whose readers fail in the middle of a value.
type failing struct{ *partd.Dict }

var errMiddle = errors.New("the disk is gone")

func (f failing) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	v, err := f.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(v[0][:len(v[0])/2]), failingReader{})), nil
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errMiddle }

// TestErrorsOfUnderlyingStore checks that errors of the underlying store are not reported as damage.
func TestErrorsOfUnderlyingStore(t *testing.T) {
	for _, format := range Formats() {
		s := newStore(t, failing{partd.NewDict()}, format, nil)
		n := 1 << 20
		if format == BZ2 {
			n = 100_000
		}
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: randomText(n)}))
		r, err := s.Open(t.Context(), "k")
		must.Do(t, err)
		_, err = io.ReadAll(r)
		if !errors.Is(err, errMiddle) || errors.As(err, new(*partd.CorruptError)) {
			t.Errorf("%s: reading = %v, want only the store's error", format, err)
		}
		if _, nextErr := r.Read(make([]byte, 1)); nextErr == nil || nextErr == io.EOF {
			t.Errorf("%s: Read after the error = %v, want the error again", format, nextErr)
		}
		must.Do(t, r.Close())
		must.Fail(t, must.Err(r.Read(make([]byte, 1))), partd.ErrClosed, "%s: Read after Close", format)
	}
}

// TestCanceledDamagedPop checks that the error of a canceled Pop also has a damaged value.
func TestCanceledDamagedPop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dict := &countingDict{Dict: partd.NewDict(), cancel: cancel}
	dict.damage = func() { must.Do(t, dict.Set(ctx, "k", []byte("rubbish"))) }
	s := newStore(t, dict, Snappy, nil)
	must.Do(t, s.Append(ctx, partd.Entry{Key: "k", Value: []byte("good")}))
	v, err := s.Pop(ctx, "k")
	lost, ok := errors.AsType[*storekit.PopError](err)
	if !ok || !errors.As(err, new(*partd.CorruptError)) || string(lost.Values[0]) != "rubbish" {
		t.Errorf("Pop of a damaged value = %q, %v, want a CorruptError with the damaged value", v, err)
	}
}
