package encode

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"pgregory.net/rapid"
)

// typed has the methods that Store and NumPy share.
type typed[T any] interface {
	Append(context.Context, ...Entry[T]) error
	Get(context.Context, ...string) ([]T, error)
	All(context.Context, string) iter.Seq2[T, error]
	Set(context.Context, string, T) error
	Delete(context.Context, ...string) error
	Pop(context.Context, ...string) ([]T, error)
	Drop(context.Context) error
	Keys(context.Context) iter.Seq2[partd.KeyInfo, error]
}

// model is a state machine that compares a store of slices with a map.
type model[T ~[]E, E any] struct {
	store        typed[T]
	values       *rapid.Generator[T]
	text         func(T) string // returns equal texts for equal values
	splitsFreely bool           // whether All may yield one appended piece in several parts
	pieces       map[string][]T // appended pieces, by key
}

var modelKeys = []string{"", "a", "key", "a b", "x.y", "ü/..", strings.Repeat("long", 100)}

func (m *model[T, E]) run(t *rapid.T) {
	ctx := context.Background()
	key := rapid.SampledFrom(modelKeys)
	check := func(label string, err error) {
		if err != nil {
			t.Fatalf("%s failed: %v", label, err)
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"append": func(t *rapid.T) {
			var batch []Entry[T]
			for range rapid.IntRange(0, 4).Draw(t, "entries") {
				batch = append(batch, Entry[T]{key.Draw(t, "key"), m.values.Draw(t, "value")})
			}
			check("Append", m.store.Append(ctx, batch...))
			for _, e := range batch {
				m.pieces[e.Key] = append(m.pieces[e.Key], e.Value)
			}
		},
		"set": func(t *rapid.T) {
			k, v := key.Draw(t, "key"), m.values.Draw(t, "value")
			check("Set", m.store.Set(ctx, k, v))
			m.pieces[k] = []T{v}
		},
		"delete": func(t *rapid.T) {
			k := key.Draw(t, "key")
			check("Delete", m.store.Delete(ctx, k))
			delete(m.pieces, k)
		},
		"pop": func(t *rapid.T) {
			k := key.Draw(t, "key")
			got, err := m.store.Pop(ctx, k)
			check("Pop", err)
			m.requireValue(t, k, got[0])
			delete(m.pieces, k)
		},
		"drop": func(t *rapid.T) {
			if rapid.IntRange(0, 5).Draw(t, "seldom") == 0 {
				check("Drop", m.store.Drop(ctx))
				clear(m.pieces)
			}
		},
		"get": func(t *rapid.T) {
			keys := rapid.SliceOf(key).Draw(t, "keys")
			got, err := m.store.Get(ctx, keys...)
			check("Get", err)
			if len(got) != len(keys) {
				t.Fatalf("Get of %d keys returned %d values, want one for each key", len(keys), len(got))
			}
			for i, k := range keys {
				m.requireValue(t, k, got[i])
			}
		},
		"all": func(t *rapid.T) { m.all(ctx, t, key.Draw(t, "key")) },
		"keys": func(t *rapid.T) {
			for info, err := range m.store.Keys(ctx) {
				check("Keys", err)
				if _, ok := m.pieces[info.Key]; !ok {
					t.Fatalf("Keys yields %q, which is not one of %q", info.Key, slices.Collect(maps.Keys(m.pieces)))
				}
			}
		},
	})
}

func (m *model[T, E]) requireValue(t *rapid.T, key string, got T) {
	want := slices.Concat(m.pieces[key]...)
	if m.text(got) != m.text(want) {
		t.Fatalf("key %q: got %#v, want %#v", key, got, want)
	}
}

func (m *model[T, E]) all(ctx context.Context, t *rapid.T, key string) {
	var got []T
	for piece, err := range m.store.All(ctx, key) {
		if err != nil {
			t.Fatalf("All yields the error %v", err)
		}
		got = append(got, piece)
	}
	if m.splitsFreely {
		m.requireValue(t, key, slices.Concat(got...))
		return
	}
	want := m.pieces[key]
	if len(got) != len(want) {
		t.Fatalf("key %q: All yields %d pieces, want %d", key, len(got), len(want))
	}
	for i := range got {
		if m.text(got[i]) != m.text(want[i]) {
			t.Fatalf("key %q, piece %d: got %#v, want %#v", key, i, got[i], want[i])
		}
	}
	for range m.store.All(ctx, key) {
		break // an early stop must leave nothing open
	}
}

// tryCodec compares a Store with the model, once over each of the stores. codec returns the codec of the Store.
func tryCodec[T ~[]E, E any](t *testing.T, stores []opener, codec func() ValueCodec[T], values *rapid.Generator[T], text func(T) string) {
	for _, inner := range stores {
		t.Run(inner.name, func(t *testing.T) {
			t.Parallel()
			p := inner.open(t)
			rapid.Check(t, func(t *rapid.T) {
				must.Do(t, p.Drop(context.Background()))
				m := &model[T, E]{New(p, codec()), values, text, false, map[string][]T{}}
				m.run(t)
			})
		})
	}
}

// tryArrays compares a NumPy with the model, once over each of the stores.
func tryArrays[E Element](t *testing.T, stores []opener, elements *rapid.Generator[E]) {
	for _, inner := range stores {
		p := inner.open(t)
		t.Run(fmt.Sprintf("%T/%s", *new(E), inner.name), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				must.Do(t, p.Drop(context.Background()))
				m := &model[[]E, E]{NewNumPy[E](p), rapid.SliceOf(elements), func(v []E) string { return fmt.Sprint(v) }, true, map[string][][]E{}}
				m.run(t)
			})
		})
	}
}

// recordText returns equal texts for equal records. It treats −0 as 0, because Gob and JSON omit both.
func recordText(v []record) string {
	var b strings.Builder
	for _, r := range v {
		fmt.Fprintf(&b, "%q %d %v %x %q %v %v", r.Name, r.Count, r.Weight+0, r.Raw, r.Tags, r.Parts, r.When)
		if r.Ignored != nil {
			fmt.Fprint(&b, *r.Ignored)
		}
	}
	return b.String()
}

func TestModelBytes(t *testing.T) {
	tryCodec(t, stores, Bytes, rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })
}

func TestModelJSON(t *testing.T) {
	tryCodec(t, stores, JSON[[]record], rapid.SliceOf(records()), recordText)
}

func TestModelGob(t *testing.T) {
	tryCodec(t, stores, Gob[[]record], rapid.SliceOf(records()), recordText)
}

func TestModelPython(t *testing.T) {
	tryCodec(t, slices.Concat(stores, layered), Python, rapid.SliceOf(plainValues(false, 2)), func(v []any) string { return plainText(v) })
}

func TestModelPickle(t *testing.T) {
	tryCodec(t, slices.Concat(stores, layered), Pickle, rapid.SliceOf(plainValues(true, 3)), func(v []any) string { return plainText(v) })
}

func TestModelNumPy(t *testing.T) {
	tryArrays(t, stores[:1], rapid.Bool())
	tryArrays(t, stores[:1], rapid.Int8())
	tryArrays(t, stores[:1], rapid.Uint16())
	tryArrays(t, stores, rapid.Int())
	tryArrays(t, stores[:1], rapid.Float32())
	tryArrays(t, stores[:1], rapid.Custom(func(t *rapid.T) complex128 {
		return complex(rapid.Float64().Draw(t, "re"), rapid.Float64().Draw(t, "im"))
	}))
	tryArrays(t, stores[:1], rapid.Map(rapid.Int64Range(-1<<62, 1<<62), func(n int64) time.Time { return time.Unix(0, n).UTC() }))
	tryArrays(t, slices.Concat(stores, layered), drawText())
}

// FuzzNumPy reads arbitrary data with an arbitrary dtype. It checks that no reader crashes, that Get
// and All agree, and that reading and writing the data does not change the data.
func FuzzNumPy(f *testing.F) {
	f.Add("<i8", []byte("12345678"))
	f.Add(">f4", []byte("1234abcd"))
	f.Add("|b1", []byte("\x00\x01\x02"))
	f.Add("<M8[ns]", []byte("\x00\x00\x00\x00\x00\x00\x00\x80"))
	f.Add("<M8[D]", []byte("\xff\xff\xff\xff\xff\xff\xff\x7f"))
	f.Add("<m8[W]", []byte("\xff\xff\xff\xff\xff\xff\xff\x7f"))
	f.Add("<c16", []byte("123456781234567"))
	f.Add("|O", []byte("\x05\x00\x00\x00\x00\x00\x00\x00\x92\xa1a\xa1b"))
	f.Add("|O", []byte("\x09\x00\x00\x00\x00\x00\x00\x00\x80\x05(\x8c\x01ae."))
	f.Add("[('a', '<i4')]", []byte("1234"))
	f.Fuzz(func(t *testing.T, dtype string, data []byte) {
		fuzzArray[int64](t, dtype, data)
		fuzzArray[float32](t, dtype, data)
		fuzzArray[bool](t, dtype, data)
		fuzzArray[complex128](t, dtype, data)
		fuzzArray[time.Time](t, dtype, data)
		fuzzArray[time.Duration](t, dtype, data)
		fuzzArray[string](t, dtype, data)
	})
}

func fuzzArray[T Element](t *testing.T, dtype string, data []byte) {
	inner := partd.NewDict()
	put(t, inner, "k", string(data), "k.dtype", dtype)
	n := NewNumPy[T](inner)
	array, err := readBoth(t, n, "k")
	if err != nil || len(array) == 0 {
		return
	}
	if err := n.Set(ctx, "k", array); err != nil {
		return // reading changed the unit of time
	}
	stored := must.Get(inner.Get(ctx, "k"))(t)
	_, isBool := any(array[0]).(bool)
	_, isText := any(array[0]).(string)
	if !isBool && !isText && string(stored[0]) != string(data) {
		t.Fatalf("data %x of dtype %s becomes %x after reading and writing", data, dtype, stored[0])
	}
	if decoded, err := readBoth(t, n, "k"); err != nil || fmt.Sprint(decoded) != fmt.Sprint(array) {
		t.Fatalf("the array %v becomes %v (error %v) after writing and reading", array, decoded, err)
	}
}

// FuzzCodecs checks that decoding arbitrary pieces neither crashes nor allocates much memory.
func FuzzCodecs(f *testing.F) {
	type row struct {
		A int32
		B string
		C []row
		D map[string]any
		E time.Time
		F []byte
	}
	codecs := []struct {
		name   string
		decode func([]byte) error
		growth uint64
	}{
		{"JSON", decodeOnly(JSON[[]row]()), 512},
		{"Gob", decodeOnly(Gob[[]row]()), 2048},
		{"Gob of numbers", decodeOnly(Gob[[]int64]()), 2048},
		{"Python", decodeOnly(Python()), 384},
		{"Pickle", decodeOnly(Pickle()), 384},
		{"Bytes", decodeOnly(Bytes()), 4},
	}
	rows := []row{{1, "text", []row{{A: 2}}, map[string]any{"a": "b", "c": 1.5}, time.Unix(1, 2).UTC(), []byte("x")}}
	for _, c := range []ValueCodec[[]row]{JSON[[]row](), Gob[[]row]()} {
		data := must.Get(c.Encode(nil, rows))(f)
		f.Add(data)
	}
	for _, hostile := range []string{
		`{"C":` + strings.Repeat("[", 100_000), "\xf8\x7f\xff\xff\xff\xff\xff\xff\xff", "\xfc\x3f\xff\xff\xff",
		"\x0c\xff\x81\x02\x01\x02\xff\x82\x00\x01\x04\x00\x00\x0e\xff\x82\x00\xfc\x3f\xff\xff\xff",
		"\x0c\xff\x81\x02\x01\x02\xff\x82\x00\x01\x04\x00\x00\x0e\xff\x82\x00\xfc?\xff\xff\x82\x00\xfc?\xff\xff\xff",
	} {
		f.Add([]byte(hostile))
	}
	f.Add([]byte("\x92\xa1a\x81\x01\x02"))
	f.Add([]byte("(lp0\nI1\na."))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, c := range codecs {
			limit := c.growth*uint64(len(data)) + 4<<20
			if strings.HasPrefix(c.name, "Gob") {
				limit += 10 << 20 // package gob allocates up to that much for a slice before it reads the elements
			}
			if allocated := procs.Allocated(func() { _ = c.decode(data) }); allocated > limit {
				t.Fatalf("%s: decoding %d bytes allocated %d bytes, want at most %d", c.name, len(data), allocated, limit)
			}
		}
	})
}

func decodeOnly[T any](c ValueCodec[T]) func([]byte) error {
	return func(data []byte) error {
		_, err := c.Decode(data)
		return err
	}
}
