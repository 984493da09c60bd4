package shuffle

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

type gaps struct {
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
	Ptr    *gaps
	None   *int
	Map    map[string][]float64
	Array  [2]string
	Many   []gaps
	Units  []struct{}
	hidden bool
}

// checkRound encodes and decodes a value, and decodes every prefix of its encoding.
func checkRound[T any](t *testing.T, v T) {
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
			t.Errorf("%#v came back as %#v, %v", v, got, err)
		}
		switch any(v).(type) {
		case string, []byte:
			continue
		}
		for i := range b {
			if _, err := c.Decode(b[:i]); err == nil {
				t.Errorf("%T: %d of %d bytes are accepted", v, i, len(b))
			}
		}
		if _, err := c.Decode(append(b, 0)); !errors.Is(err, errEncoding) {
			t.Errorf("%T: with an extra byte: %v", v, err)
		}
	}
}

func TestDefaultCodec(t *testing.T) {
	checkRound(t, []byte{})
	checkRound(t, []byte("bytes"))
	checkRound(t, "")
	checkRound(t, "text")
	checkRound(t, int8(-1))
	checkRound(t, uint64(math.MaxUint64))
	checkRound(t, float32(1.5))
	checkRound(t, -1.5)
	checkRound(t, complex(1, -2))
	checkRound(t, true)
	checkRound(t, [3]uint16{1, 2, 3})
	checkRound(t, gaps{1, 2, 3})
	checkRound(t, [2]gaps{{1, 2, 3}, {4, 5, 6}})
	checkRound(t, []string{"a", ""})
	checkRound(t, []uint32{})
	checkRound(t, []uint32(nil))
	checkRound(t, map[struct{}]struct{}{{}: {}})
	checkRound(t, time.Date(2020, 1, 2, 3, 4, 5, 6, time.UTC))
	checkRound(t, nested{})
	checkRound(t, nested{
		Name: "n", at: time.Unix(1, 2).UTC(), List: []string{"a", "", "b"}, Bytes: []byte{1}, Empty: []int{},
		Ptr: &gaps{1, 2, 3}, Map: map[string][]float64{"x": {1, 2}, "": nil}, Array: [2]string{"", "z"},
		Many: []gaps{{}, {1, 2, 3}}, Units: make([]struct{}, 3), hidden: true,
	})
}

func TestNoDefaultCodec(t *testing.T) {
	type list struct{ Next *list }
	check := func(err error, name string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
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

// Equal keys have equal encodings.
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

// FuzzDecode decodes arbitrary bytes.
func FuzzDecode(f *testing.F) {
	c, err := DefaultCodec[nested]()
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range []nested{{}, {Name: "n", List: []string{"a"}, Map: map[string][]float64{"x": {1}}, Ptr: new(gaps), Units: make([]struct{}, 9)}} {
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
		if again, err := c.Decode(b); err != nil || len(again.List) != len(v.List) {
			t.Errorf("%+v, encoded again, gives %v, %v", v, again, err)
		}
	})
}
