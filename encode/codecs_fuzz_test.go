package encode

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

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
		data, err := c.Encode(nil, rows)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, hostile := range []string{
		`{"C":` + strings.Repeat("[", 100_000), "\xf8\x7f\xff\xff\xff\xff\xff\xff\xff", "\xfc\x3f\xff\xff\xff",
		"\x0c\xff\x81\x02\x01\x02\xff\x82\x00\x01\x04\x00\x00\x0e\xff\x82\x00\xfc\x3f\xff\xff\xff",
	} {
		f.Add([]byte(hostile))
	}
	f.Add([]byte("\x92\xa1a\x81\x01\x02"))
	f.Add([]byte("(lp0\nI1\na."))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, c := range codecs {
			limit := c.growth*uint64(len(data)) + 4<<20
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
