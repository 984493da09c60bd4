package encode

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/testutil/must"
)

var ctx = context.Background()

// TestStoredBytes checks that the stored bytes are those that Python also writes and reads.
func TestStoredBytes(t *testing.T) {
	inner := partd.NewDict()
	must.Do(t, New(inner, Python()).Append(ctx, Entry[[]any]{"python", []any{1, "a"}}, Entry[[]any]{"python", []any{}}))
	must.Do(t, New(inner, Python()).Append(ctx, Entry[[]any]{"pickled", []any{PySet{}}}))
	must.Do(t, New(inner, Bytes()).Append(ctx, Entry[[]byte]{"bytes", []byte("abc")}))
	must.Do(t, New(inner, JSON[map[string]string]()).Append(ctx, Entry[map[string]string]{"json", map[string]string{"<": ">"}}))
	must.Do(t, NewNumPy[uint16](inner).Append(ctx, Entry[[]uint16]{"numpy", []uint16{1, 256}}))
	for key, want := range map[string]string{
		"python":      "\x04\x00\x00\x00\x00\x00\x00\x00\x92\x01\xa1a" + "\x01\x00\x00\x00\x00\x00\x00\x00\x90",
		"pickled":     "\x07\x00\x00\x00\x00\x00\x00\x00\x80\x05](\x8fe.",
		"bytes":       "\x03\x00\x00\x00\x00\x00\x00\x00abc",
		"json":        "\x09\x00\x00\x00\x00\x00\x00\x00" + `{"<":">"}`,
		"numpy":       "\x01\x00\x00\x01",
		"numpy.dtype": "<u2",
	} {
		got := must.Get(inner.Get(ctx, key))(t)
		if string(got[0]) != want {
			t.Errorf("the stored bytes of %s are %q, want %q", key, got[0], want)
		}
	}
}

func TestDamageIsLocated(t *testing.T) {
	good := frame.Append(nil, []byte("[1]"))
	n := int64(len(good))
	for name, c := range map[string]struct {
		data   string
		offset int64
		want   string
	}{
		"garbage in a piece":    {string(frame.Append(good, []byte("[1] x"))), n, "after top-level value"},
		"cut within a piece":    {string(frame.Append(good, []byte("[1]"))[:2*n-1]), n, "truncated"},
		"cut within a header":   {string(good) + "\x03\x00", n, "truncated"},
		"false length":          {string(good) + "\xff\xff\xff\xff\xff\xff\xff\xff[1]", n, ""},
		"empty piece":           {string(frame.Append(good, nil)), n, "unexpected end"},
		"bytes without a frame": {"[1]", 0, "truncated"},
	} {
		inner := partd.NewDict()
		must.Do(t, inner.Append(ctx, partd.Entry{Key: "k", Value: []byte(c.data)}))
		s := New(inner, JSON[[]int]())
		_, err := s.Get(ctx, "other", "k")
		checkDamage(t, name+", Get", err, c.offset, c.want)
		pieces := 0
		for _, err = range s.All(ctx, "k") {
			pieces++
		}
		checkDamage(t, name+", All", err, c.offset, c.want)
		if want := 1 + int(c.offset/n); pieces != want {
			t.Errorf("%s: All yields %d items, want %d", name, pieces, want)
		}
		_, err = s.Pop(ctx, "k")
		checkDamage(t, name+", Pop", err, c.offset, c.want)
		var pop *PopError
		if !errors.As(err, &pop) || len(pop.Values) != 1 || string(pop.Values[0]) != c.data {
			t.Errorf("%s: Pop = %v, want a PopError with the stored bytes", name, err)
		}
	}
}

func checkDamage(t *testing.T, name string, err error, offset int64, want string) {
	t.Helper()
	var decodeErr *DecodeError
	var storeErr *partd.Error
	if !errors.As(err, &decodeErr) || !errors.As(err, &storeErr) || decodeErr.Offset != offset || storeErr.Key != "k" || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got the error %v (%#v), want a DecodeError of key k at offset %d with %q", name, err, decodeErr, offset, want)
	}
}

func TestEncodeFails(t *testing.T) {
	inner := partd.NewDict()
	s := New(inner, JSON[[]any]())
	bad := []any{func() {}}
	for op, err := range map[string]error{
		"append":   s.Append(ctx, Entry[[]any]{"k", []any{1}}, Entry[[]any]{"bad", bad}),
		"set":      s.Set(ctx, "bad", bad),
		"set once": s.SetOnce(ctx, "bad", bad),
	} {
		var e *partd.Error
		if !errors.As(err, &e) || e.Key != "bad" || e.Op != op || !strings.Contains(err.Error(), "func()") {
			t.Errorf("%s of a value that cannot be encoded = %v, want an error of key bad", op, err)
		}
	}
	for info, err := range s.Keys(ctx) {
		t.Errorf("after failed changes, Keys yields %v, %v, want nothing", info, err)
	}
}

func TestJoin(t *testing.T) {
	type point struct{ X, Y int }
	inner := partd.NewDict()
	points := New(inner, JSON[point]())
	got, err := points.Get(ctx, "none")
	must.Do(t, err)
	if got[0] != (point{}) {
		t.Errorf("Get without values = %v, want the zero value", got)
	}
	must.Do(t, points.Append(ctx, Entry[point]{"p", point{1, 2}}))
	got = must.Get(points.Get(ctx, "p"))(t)
	if got[0] != (point{1, 2}) {
		t.Errorf("Get of one value = %v, want {1 2}", got)
	}
	must.Do(t, points.Append(ctx, Entry[point]{"p", point{3, 4}}))
	if _, err = points.Get(ctx, "p"); !errors.Is(err, ErrNoJoin) || !strings.Contains(err.Error(), "2 values of type encode.point") {
		t.Errorf("Get of two values without a join = %v, want ErrNoJoin", err)
	}
	sum := JSON[point]()
	sum.Join = func(pieces []point) (total point, _ error) {
		for _, p := range pieces {
			total.X += p.X
			total.Y += p.Y
		}
		return total, nil
	}
	got = must.Get(New(inner, sum).Get(ctx, "p"))(t)
	if got[0] != (point{4, 6}) {
		t.Errorf("Get with a Join that adds = %v, want {4 6}", got)
	}
	type name string
	names := New(inner, Gob[name]())
	must.Do(t, names.Append(ctx, Entry[name]{"n", "a"}, Entry[name]{"n", "b"}))
	joined := must.Get(names.Get(ctx, "n", "none"))(t)
	if joined[0] != "ab" || joined[1] != "" {
		t.Errorf("Get of strings = %q, want ab and nothing", joined)
	}
}

// TestDecodeDoesNotRetainData checks that decoded values do not refer to the encoded data, which
// the caller reuses.
func TestDecodeDoesNotRetainData(t *testing.T) {
	type all struct {
		S string
		B []byte
		M map[string]string
	}
	v := all{"text", []byte("bytes"), map[string]string{"key": "value"}}
	checkNotRetained(t, "JSON", JSON[all](), v)
	checkNotRetained(t, "Gob", Gob[all](), v)
	checkNotRetained(t, "Bytes", Bytes(), []byte("bytes"))
	checkNotRetained(t, "Python", Python(), []any{"text", []byte("bytes"), PyDict{{Key: "key", Value: "value"}}})
	checkNotRetained(t, "Pickle", Pickle(), []any{"text", []byte("bytes"), PyByteArray("array"), PyTuple{[]byte("b")}})
}

func checkNotRetained[T any](t *testing.T, name string, c ValueCodec[T], v T) {
	t.Helper()
	data := must.Get(c.Encode([]byte("before"), v))(t)
	if string(data[:6]) != "before" {
		t.Errorf("%s: Encode did not append to dst", name)
	}
	data = data[6:]
	got := must.Get(c.Decode(data))(t)
	for i := range data {
		data[i] = 0xff
	}
	if fmt.Sprint(got) != fmt.Sprint(v) {
		t.Errorf("%s: after overwriting the data, the decoded value is %v, want %v", name, got, v)
	}
}

// TestTrailingAndTruncatedPieces checks that a truncated value and bytes after a value are errors.
func TestTrailingAndTruncatedPieces(t *testing.T) {
	v := []string{"one", "two"}
	for name, c := range map[string]ValueCodec[[]string]{"JSON": JSON[[]string](), "Gob": Gob[[]string]()} {
		data := must.Get(c.Encode(nil, v))(t)
		if _, err := c.Decode(append(data, data...)); err == nil {
			t.Errorf("%s: Decode of two concatenated values succeeded", name)
		}
		for n := range data {
			if got, err := c.Decode(data[:n]); err == nil {
				t.Errorf("%s: Decode of the first %d of %d bytes = %q, want an error", name, n, len(data), got)
			}
		}
	}
}

// TestAllInBoundedMemory checks that All holds only one piece at a time in memory.
func TestAllInBoundedMemory(t *testing.T) {
	const pieces, size = 48, 1 << 20
	inner := openFile(t, t.TempDir())
	s, n := New(inner, Bytes()), NewNumPy[int32](inner)
	piece, array := make([]byte, size), make([]int32, size/4+1)
	for i := range pieces {
		piece[0], array[0] = byte(i), int32(i)
		must.Do(t, s.Append(ctx, Entry[[]byte]{"k", piece}))
		must.Do(t, n.Append(ctx, Entry[[]int32]{"n", array}))
	}
	measure := func(name string, read func(record func())) {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		start, peak := m.HeapAlloc, uint64(0)
		read(func() {
			runtime.GC()
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		})
		if peak == 0 || peak > start+8<<20 {
			t.Errorf("%s: reading values of %d bytes used %d bytes of memory, want at most 8 MiB", name, pieces*size, int64(peak)-int64(start))
		}
	}
	measure("Store", func(record func()) {
		count := 0
		for v, err := range s.All(ctx, "k") {
			must.Do(t, err)
			if v[0] != byte(count) || len(v) != size {
				t.Fatalf("piece %d has %d bytes and begins with %d, want %d bytes that begin with %d", count, len(v), v[0], size, byte(count))
			}
			count++
			record()
		}
	})
	measure("NumPy", func(record func()) {
		position := 0
		for part, err := range n.All(ctx, "n") {
			must.Do(t, err)
			for i, v := range part {
				if i, want := (position+i)%len(array), int32((position+i)/len(array)); i == 0 && v != want || i != 0 && v != 0 {
					t.Fatalf("All yields a wrong element %d: %d", position+i, v)
				}
			}
			if position += len(part); position%(1<<20) < len(part) {
				record()
			}
		}
		if position != pieces*len(array) {
			t.Fatalf("All yielded %d elements, want %d", position, pieces*len(array))
		}
	})
}

// bare is a store without optional abilities.
type bare struct{ partd.Partd }

func TestAbilities(t *testing.T) {
	s, n := New[[]byte](bare{partd.NewDict()}, Bytes()), NewNumPy[int8](bare{partd.NewDict()})
	_, popErr := s.Pop(ctx, "k")
	for name, err := range map[string]error{
		"Set": s.Set(ctx, "k", nil), "SetOnce": s.SetOnce(ctx, "k", nil), "Delete": s.Delete(ctx, "k"), "Pop": popErr,
		"Flush": s.Flush(ctx), "Sync": s.Sync(ctx), "Close": s.Close(),
		"NumPy Append": n.Append(ctx, Entry[[]int8]{"k", []int8{1}}), "NumPy Delete": n.Delete(ctx, "k"), "NumPy Flush": n.Flush(ctx),
		"NumPy Sync": n.Sync(ctx), "NumPy Close": n.Close(),
	} {
		must.Fail(t, err, errors.ErrUnsupported, "%s over a store without abilities", name)
	}
	inner := openFile(t, t.TempDir())
	for _, s := range []interface {
		Sync(context.Context) error
		Unwrap() partd.Partd
	}{New(inner, Bytes()), NewNumPy[int8](inner)} {
		must.Do(t, s.Sync(ctx))
		if s.Unwrap() != partd.Partd(inner) {
			t.Error("Unwrap does not return the underlying store")
		}
	}
	pages := New(inner, Bytes())
	must.Do(t, pages.SetOnce(ctx, "once", []byte("first")))
	must.Do(t, pages.SetOnce(ctx, "once", []byte("second")))
	if got, err := pages.Get(ctx, "once"); err != nil || string(got[0]) != "first" {
		t.Errorf("Get after two calls of SetOnce = %q, %v, want first", got, err)
	}
	must.Do(t, pages.Close())
	must.Fail(t, pages.Append(ctx, Entry[[]byte]{"k", []byte("x")}), partd.ErrClosed, "Append after Close")
}

// TestJoinKeepsPieces checks that a Join may retain its pieces.
func TestJoinKeepsPieces(t *testing.T) {
	codec := JSON[any]()
	codec.Join = func(pieces []any) (any, error) { return pieces, nil }
	s := New(partd.NewDict(), codec)
	must.Do(t, s.Append(t.Context(), Entry[any]{"a", "first"}, Entry[any]{"b", "x"}, Entry[any]{"a", "second"}))
	got := must.Get(s.Get(t.Context(), "a", "b"))(t)
	if text := fmt.Sprint(got); text != "[[first second] [x]]" {
		t.Errorf("Get = %s, want [[first second] [x]]", text)
	}
}
