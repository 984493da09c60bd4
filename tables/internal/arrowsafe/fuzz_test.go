package arrowsafe

import (
	"runtime/metrics"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// allocated returns the total bytes allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// FuzzStream reads untrusted streams: the result is rows or an error, in memory within the limit.
func FuzzStream(f *testing.F) {
	b := rowsOf(f, every, everyRows)
	f.Add(streamOf(f, []arrow.RecordBatch{b}))
	f.Add(streamOf(f, []arrow.RecordBatch{b, b}, ipc.WithZstd()))
	for i := range every.Fields() {
		one := arrow.NewSchema(every.Fields()[i:i+1], nil)
		f.Add(streamOf(f, []arrow.RecordBatch{rowsOf(f, one, everyRows)}))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		const limit = 1 << 20
		before := allocated()
		batches, err := readAll(stream, limit)
		if took := allocated() - before; took > 64<<20+8*uint64(len(stream)) {
			t.Errorf("%d bytes for a stream of %d: %v", took, len(stream), err)
		}
		for _, b := range batches {
			for _, column := range b.Columns() {
				_ = column.String() // accepted batches can be printed
			}
			b.Release()
		}
	})
}
