package encode

import (
	"fmt"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

func benchCodec[T any](b *testing.B, name string, c ValueCodec[T], v T) {
	data := must.Get(c.Encode(nil, v))(b)
	b.Run(name+"/encode", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		buf := make([]byte, 0, 2*len(data))
		for b.Loop() {
			must.Get(c.Encode(buf, v))(b)
		}
	})
	b.Run(name+"/decode", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			must.Get(c.Decode(data))(b)
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
