package encode

import (
	"fmt"
	"testing"
	"time"
)

func benchRows() []record {
	rows := make([]record, 100)
	for i := range rows {
		rows[i] = record{
			Name: fmt.Sprint("name ", i), Count: int64(i) * 7919, Weight: float64(i) / 8, Raw: []byte("0123456789"),
			Tags: map[string]string{"a": "b"}, Parts: []part{{1, 2, true}}, When: time.Unix(int64(i), 0).UTC(),
		}
	}
	return rows
}

func benchList() []any {
	list := make([]any, 0, 300)
	for i := range 100 {
		list = append(list, i*7919, fmt.Sprint("text number ", i), PyDict{{Key: "id", Value: i}, {Key: "score", Value: float64(i) / 8}})
	}
	return list
}

// BenchmarkCodecs measures encoded bytes per second, with pieces of 100 rows or 300 elements.
func BenchmarkCodecs(b *testing.B) {
	benchCodec(b, "JSON", JSON[[]record](), benchRows())
	benchCodec(b, "Gob", Gob[[]record](), benchRows())
	benchCodec(b, "Msgpack", Msgpack[[]record](), benchRows())
	benchCodec(b, "Python", Python(), benchList())
	benchCodec(b, "Pickle", Pickle(), benchList())
	benchCodec(b, "Bytes", Bytes(), make([]byte, 4096))
}

func benchCodec[T any](b *testing.B, name string, c ValueCodec[T], v T) {
	data, err := c.Encode(nil, v)
	must(b, err)
	b.Run(name+"/encode", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		buf := make([]byte, 0, 2*len(data))
		for b.Loop() {
			if _, err := c.Encode(buf, v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run(name+"/decode", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Decode(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkNumPy measures encoded bytes per second, with arrays of 8,192 elements and without a store.
func BenchmarkNumPy(b *testing.B) {
	benchArray[int8](b)
	benchArray[float64](b)
	benchArray[complex128](b)
	benchArray[time.Time](b)
	benchArray[string](b)
}

func benchArray[T Element](b *testing.B) {
	v := make([]T, 8192)
	if t, ok := any(v).([]string); ok {
		for i := range t {
			t[i] = fmt.Sprint("text number ", i)
		}
	}
	n := NewNumPy[T](nil)
	data, err := appendArray(nil, n.dtype, v)
	must(b, err)
	b.Run(fmt.Sprintf("%T/encode", v[0]), func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		buf := make([]byte, 0, 2*len(data))
		for b.Loop() {
			if _, err := appendArray(buf, n.dtype, v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run(fmt.Sprintf("%T/decode", v[0]), func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, err := n.decode(n.dtype, data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPandasBlocks uses the columns of blocks.py, and measures encoded bytes per second.
func BenchmarkPandasBlocks(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		ints, shorts, floats, texts := make([]int64, n), make([]int32, n), make([]float64, n), make([]any, n)
		names := []any{"alpha", "beta", "gamma"}
		for i := range n {
			ints[i], shorts[i], floats[i], texts[i] = int64(i), int32(i*7919%1000), float64(i)*0.618, names[i%3]
		}
		d := DataFrame{Columns: []Column{
			{"i", ints}, {"j", shorts}, {"x", floats}, {"y", floats}, {"t", Times{"ns", "", ints}}, {"s", texts},
		}}
		benchCodec(b, fmt.Sprint("objects of ", n), PandasBlocks(nil), d)
		d.Columns[5].Values = Texts{Values: asTexts(texts)}
		benchCodec(b, fmt.Sprint("str of ", n), PandasBlocks(nil), d)
		benchCodec(b, fmt.Sprint("compressed of ", n), PandasBlocks(&PandasOptions{Blosc: true, Snappy: true}), d)
	}
}

func asTexts(objects []any) []string {
	texts := make([]string, len(objects))
	for i, o := range objects {
		texts[i], _ = o.(string)
	}
	return texts
}
