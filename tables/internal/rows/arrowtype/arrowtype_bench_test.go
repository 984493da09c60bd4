package arrowtype_test

import (
	"io"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

var benchTypes = map[string]arrow.DataType{
	"int32": arrow.PrimitiveTypes.Int32, "int64": arrow.PrimitiveTypes.Int64, "float64": arrow.PrimitiveTypes.Float64,
	"timestamp": arrow.FixedWidthTypes.Timestamp_us, "decimal": &arrow.Decimal128Type{Precision: 38, Scale: 4}, "text": arrow.BinaryTypes.String,
	"list": arrow.ListOf(arrow.PrimitiveTypes.Int64),
}

// benchmark measures f for each type, with a batch of one column.
func benchmark(b *testing.B, f func(b arrow.RecordBatch) error) {
	for name, t := range benchTypes {
		batch := batchOf(randomArray(t, 1<<14, rand.New(rand.NewPCG(1, 2))))
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				must.Do(b, f(batch))
			}
		})
	}
}

func benchmarkKeys(b *testing.B, appender func(a arrow.Array) func(key []byte, row int) ([]byte, error)) {
	var key []byte
	benchmark(b, func(b arrow.RecordBatch) (err error) {
		f := appender(b.Column(0))
		for row := range int(b.NumRows()) {
			key, _ = f(key[:0], row)
		}
		return nil
	})
}

func BenchmarkSQLKeys(b *testing.B) { benchmarkKeys(b, sorted.SQLKeyAppender) }

func BenchmarkOrderKeys(b *testing.B) {
	benchmarkKeys(b, func(a arrow.Array) func(key []byte, row int) ([]byte, error) {
		f := sorted.OrderKeyAppender(a)
		return func(key []byte, row int) ([]byte, error) {
			if a.IsNull(row) {
				return key, nil
			}
			return f(key, row), nil
		}
	})
}

func BenchmarkExactKeys(b *testing.B) {
	benchmarkKeys(b, func(a arrow.Array) func(key []byte, row int) ([]byte, error) {
		f := sorted.ExactKeyAppender(a, math.MaxInt)
		return func(key []byte, row int) ([]byte, error) { return f(key, row), nil }
	})
}

func BenchmarkTextKeys(b *testing.B) { benchmarkKeys(b, appendTextKey) }

func BenchmarkSort(b *testing.B) {
	benchmark(b, func(b arrow.RecordBatch) error {
		if !sorted.HasOrder(b.Schema().Field(0).Type) {
			return nil
		}
		_, err := sorted.Block([]arrow.RecordBatch{b}, []int{0})
		return err
	})
}

func benchmarkWriter(b *testing.B, f *formats.Format) {
	benchmark(b, func(b arrow.RecordBatch) error {
		w, err := f.Write(io.Discard, b.Schema(), formats.WriteOptions{})
		if err != nil {
			return err
		}
		return w.Write(b)
	})
}

func BenchmarkCSV(b *testing.B)  { benchmarkWriter(b, formats.CSV()) }
func BenchmarkJSON(b *testing.B) { benchmarkWriter(b, formats.JSONL()) }
