package shuffle

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

type gapped struct {
	A uint8
	B uint64
	C uint16
}

type nested struct {
	Name   string
	at     time.Time
	List   []string
	Bytes  []byte
	Nil    []int
	Empty  []int
	Ptr    *gapped
	None   *int
	Map    map[string][]float64
	Array  [2]string
	Many   []gapped
	Units  []struct{}
	hidden bool
}

// checkRoundTrip encodes and decodes a value, and decodes every prefix of its encoding.
func checkRoundTrip[T any](t *testing.T, v T) {
	t.Helper()
	for _, forKeys := range []bool{false, true} {
		c, _, err := newCodec[T](forKeys)
		if err != nil {
			t.Fatal(err)
		}
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
		if _, err := c.Decode(append(b, 0)); !errors.Is(err, errEncoding) {
			t.Errorf("%T: decoding with an extra byte: error = %v, want %v", v, err, errEncoding)
		}
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
	checkRoundTrip(t, []string{"a", ""})
	checkRoundTrip(t, []uint32{})
	checkRoundTrip(t, []uint32(nil))
	checkRoundTrip(t, map[struct{}]struct{}{{}: {}})
	checkRoundTrip(t, time.Date(2020, 1, 2, 3, 4, 5, 6, time.UTC))
	checkRoundTrip(t, nested{})
	checkRoundTrip(t, nested{
		Name: "n", at: time.Unix(1, 2).UTC(), List: []string{"a", "", "b"}, Bytes: []byte{1}, Empty: []int{},
		Ptr: &gapped{1, 2, 3}, Map: map[string][]float64{"x": {1, 2}, "": nil}, Array: [2]string{"", "z"},
		Many: []gapped{{}, {1, 2, 3}}, Units: make([]struct{}, 3), hidden: true,
	})
}

func TestNoDefaultCodec(t *testing.T) {
	type list struct{ Next *list }
	check := func(err error, name string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("DefaultCodec() error = %v, want an error that contains %q", err, name)
		}
	}
	_, err := DefaultCodec[any]()
	check(err, "interface {}")
	_, err = DefaultCodec[struct{ F func() }]()
	check(err, "field F: func()")
	_, err = DefaultCodec[list]()
	check(err, "list contains itself")
	_, err = DefaultCodec[map[string]chan int]()
	check(err, "chan int")
}

// TestKeyCodec checks that equal keys have equal encodings.
func TestKeyCodec(t *testing.T) {
	requireSame := func(a, b any, encode func(any) []byte) {
		t.Helper()
		if !bytes.Equal(encode(a), encode(b)) {
			t.Errorf("%v and %v have different encodings", a, b)
		}
	}
	type mixed struct {
		A bool
		F float64
		G float32
	}
	c, _, err := newCodec[mixed](true)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(v any) []byte {
		b, err := c.Encode(nil, v.(mixed))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	zero := math.Copysign(0, -1)
	requireSame(mixed{true, 0, 0}, mixed{true, zero, float32(zero)}, encode)
	requireSame(mixed{F: math.NaN()}, mixed{F: math.Float64frombits(math.Float64bits(math.NaN()) + 5)}, encode)
	m, _, err := newCodec[map[string]int](true)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		requireSame(map[string]int{"a": 1, "b": 2, "c": 3}, map[string]int{"c": 3, "a": 1, "b": 2}, func(v any) []byte {
			b, err := m.Encode(nil, v.(map[string]int))
			if err != nil {
				t.Fatal(err)
			}
			return b
		})
	}
}

func FuzzDecode(f *testing.F) {
	c, err := DefaultCodec[nested]()
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range []nested{{}, {Name: "n", List: []string{"a"}, Map: map[string][]float64{"x": {1}}, Ptr: new(gapped), Units: make([]struct{}, 9)}} {
		b, err := c.Encode(nil, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := c.Decode(data)
		if err != nil {
			return
		}
		b, err := c.Encode(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := c.Decode(b); err != nil || len(second.List) != len(v.List) {
			t.Errorf("after a second encoding, %+v decodes to %v, error %v; want the same value", v, second, err)
		}
	})
}

// TestAccumulators checks that accumulators read back from disk are merged into those in memory, and
// that records which do not change the size of an accumulator do not change the memory in use.
func TestAccumulators(t *testing.T) {
	codec, _, err := newCodec[[]int](false)
	if err != nil {
		t.Fatal(err)
	}
	l := &accumulators[int, []int]{acc: &Accumulator[int, []int]{
		Merge: func(to, other *[]int) { *to = append(*to, *other...) },
		Size:  func(list *[]int) int { return 8 * len(*list) },
		Codec: codec,
	}}
	words := make([]uint64, 1)
	for i, list := range [][]int{{1, 2}, {3}, nil} {
		data, err := codec.Encode(nil, list)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Merge(words, i == 0, data); err != nil {
			t.Fatal(err)
		}
	}
	got := *l.get(words, false)
	if !slices.Equal(got, []int{1, 2, 3}) || l.totalSize != 8*3 {
		t.Errorf("the merged accumulator is %v with size %d, want [1 2 3] with size %d", got, l.totalSize, 8*3)
	}
}
