package shuffle

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/must"
)

type gapped struct {
	A uint8
	B uint64
	C uint16
}

type nested struct {
	Name   string
	at     time.Time
	Array  [2]string
	Many   [3]gapped
	Mixed  [2]struct{ Text string }
	Units  [3]struct{}
	hidden bool
}

// onlyMarshaler and onlyUnmarshaler have one of the methods that a type needs to define its encoding.
type (
	onlyMarshaler   struct{ Text string }
	onlyUnmarshaler struct{ Text string }
)

func (onlyMarshaler) MarshalBinary() ([]byte, error) { return nil, errors.ErrUnsupported }

func (*onlyUnmarshaler) UnmarshalBinary([]byte) error { return errors.ErrUnsupported }

// checkRoundTrip encodes and decodes a value, and decodes every prefix of its encoding.
func checkRoundTrip[T any](t *testing.T, v T) {
	t.Helper()
	for _, forKeys := range []bool{false, true} {
		c, _, err := newCodec[T](forKeys)
		must.Do(t, err)
		b, err := c.Encode([]byte("x"), v)
		if err != nil || b[0] != 'x' {
			t.Fatal(err)
		}
		b = b[1:]
		got, err := c.Decode(bytes.Clone(b))
		if err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("the encoding of %#v decodes to %#v, error %v; want the same value", v, got, err)
		}
		switch any(v).(type) {
		case string, []byte:
			continue
		}
		for i := range b {
			if _, err := c.Decode(b[:i]); err == nil {
				t.Errorf("%T: decoding the first %d of %d bytes returned no error", v, i, len(b))
			}
		}
		must.Fail(t, must.Err(c.Decode(append(b, 0))), errEncoding, "%T: decoding with an extra byte", v)
	}
}

func TestDefaultCodec(t *testing.T) {
	checkRoundTrip(t, []byte{})
	checkRoundTrip(t, []byte("bytes"))
	checkRoundTrip(t, "")
	checkRoundTrip(t, "text")
	checkRoundTrip(t, int8(-1))
	checkRoundTrip(t, uint64(math.MaxUint64))
	checkRoundTrip(t, float32(1.5))
	checkRoundTrip(t, -1.5)
	checkRoundTrip(t, complex(1, -2))
	checkRoundTrip(t, true)
	checkRoundTrip(t, [3]uint16{1, 2, 3})
	checkRoundTrip(t, gapped{1, 2, 3})
	checkRoundTrip(t, [2]gapped{{1, 2, 3}, {4, 5, 6}})
	checkRoundTrip(t, time.Date(2020, 1, 2, 3, 4, 5, 6, time.UTC))
	checkRoundTrip(t, onlyMarshaler{"text"})
	checkRoundTrip(t, onlyUnmarshaler{"text"})
	checkRoundTrip(t, nested{})
	checkRoundTrip(t, nested{
		Name: "n", at: time.Unix(1, 2).UTC(), Array: [2]string{"", "z"},
		Many: [3]gapped{1: {1, 2, 3}}, Mixed: [2]struct{ Text string }{{"x"}}, hidden: true,
	})
}

func TestNoDefaultCodec(t *testing.T) {
	type list struct{ Next *list }
	check := func(err error, texts ...string) {
		t.Helper()
		for _, text := range texts {
			must.Fail(t, err, text, "creating a codec")
		}
	}
	_, err := DefaultCodec[any]()
	check(err, "interface {}")
	_, err = DefaultCodec[struct{ F func() }]()
	check(err, "field F: it has a func")
	_, err = DefaultCodec[list]()
	check(err, "field Next: it has a ptr", "encode.Gob[shuffle.list]()", "encode.JSON[shuffle.list]()")
	_, err = DefaultCodec[map[string]int]()
	check(err, "it has a map")
	_, err = DefaultCodec[[2][]string]()
	check(err, "it has a slice")
	_, err = newKeyCodec[[]string]()
	check(err, "keys of type []string", "encode.JSON", "encode.Gob")
	_, err = newJoinKey[*[]string]()
	check(err, "keys of type *[]string")
	_, err = NewDeduplicator[[]string](t.Context(), nil)
	check(err, "encode.Gob[[]string]()")
	_, err = NewAggregator(t.Context(), func(int) int { return 0 }, Accumulator[int, []int]{Add: func(*[]int, int) {}, Merge: func(_, _ *[]int) {}}, nil)
	check(err, "accumulators of type []int", "encode.Gob[[]int]()")
}

// TestKeyCodec checks that equal keys have equal encodings.
func TestKeyCodec(t *testing.T) {
	type mixed struct {
		A bool
		F float64
		G float32
	}
	c := must.Get(newKeyCodec[mixed]())(t)
	zero := math.Copysign(0, -1)
	for _, pair := range [][2]mixed{
		{{true, 0, 0}, {true, zero, float32(zero)}},
		{{F: math.NaN()}, {F: math.Float64frombits(math.Float64bits(math.NaN()) + 5)}},
	} {
		a, errA := c.Encode(nil, pair[0])
		b, errB := c.Encode(nil, pair[1])
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%v and %v have different encodings, or errors: %v, %v", pair[0], pair[1], errA, errB)
		}
		n := 0
		for _, err := range Distinct(t.Context(), Values(pair[:]...), nil) {
			must.Do(t, err)
			n++
		}
		if n != 1 {
			t.Errorf("Distinct yields %d of the equal records %v and %v, want 1", n, pair[0], pair[1])
		}
	}
}

func FuzzDecode(f *testing.F) {
	c := must.Get(DefaultCodec[nested]())(f)
	for _, v := range []nested{{}, {Name: "n", Array: [2]string{"a"}, hidden: true}} {
		b := must.Get(c.Encode(nil, v))(f)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := c.Decode(data)
		if err != nil {
			return
		}
		b := must.Get(c.Encode(nil, v))(t)
		second, err := c.Decode(b)
		// A damaged encoding can set bits in a time.Time that its methods ignore.
		_, offset := v.at.Zone()
		_, secondOffset := second.at.Zone()
		if second.at.Equal(v.at) && secondOffset == offset {
			second.at = v.at
		}
		if err != nil || !reflect.DeepEqual(second, v) {
			t.Errorf("after a second encoding, %+v decodes to %v, error %v; want the same value", v, second, err)
		}
	})
}

// TestAccumulators checks that accumulators read back from disk are merged into those in memory, and
// that records which do not change the size of an accumulator do not change the memory in use.
func TestAccumulators(t *testing.T) {
	codec := encode.Gob[[]int]()
	l := &accumulators[int, []int]{acc: &Accumulator[int, []int]{
		Merge: func(to, other *[]int) { *to = append(*to, *other...) },
		Size:  func(list *[]int) int { return 8 * len(*list) },
		Codec: codec,
	}}
	words := make([]uint64, 1)
	for i, list := range [][]int{{1, 2}, {3}, nil} {
		data := must.Get(codec.Encode(nil, list))(t)
		must.Do(t, l.Merge(words, i == 0, data))
	}
	got := *l.get(words, false)
	if !slices.Equal(got, []int{1, 2, 3}) || l.totalSize != 8*3 {
		t.Errorf("the merged accumulator is %v with size %d, want [1 2 3] with size %d", got, l.totalSize, 8*3)
	}
}

func isInline[A any](t *testing.T, size func(*A) int) bool {
	t.Helper()
	acc := Accumulator[int, A]{Add: func(*A, int) {}, Merge: func(_, _ *A) {}, Size: size}
	a := must.Get(NewAggregator(t.Context(), func(int) int { return 0 }, acc, nil))(t)
	must.Do(t, a.Close())
	return a.inline
}

// TestInlineAccumulators checks that the hash table contains only small accumulators without pointers.
func TestInlineAccumulators(t *testing.T) {
	got := []bool{
		isInline[[maxInlineWords]uint64](t, nil), isInline[[maxInlineWords + 1]uint64](t, nil),
		isInline[string](t, nil), isInline(t, func(*int) int { return 8 }),
	}
	if want := []bool{true, false, false, false}; !slices.Equal(got, want) {
		t.Errorf("accumulators are inline: %v, want %v", got, want)
	}
}
