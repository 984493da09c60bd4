package arrowsafe

import (
	"runtime/metrics"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// FuzzStream checks that reading an untrusted stream yields rows or an error, and uses little memory.
func FuzzStream(f *testing.F) {
	b := rowsOf(f, allLayouts, allLayoutRows)
	f.Add(streamOf(f, []arrow.RecordBatch{b}))
	f.Add(streamOf(f, []arrow.RecordBatch{b, b}, ipc.WithZstd()))
	for i := range allLayouts.Fields() {
		oneColumn := arrow.NewSchema(allLayouts.Fields()[i:i+1], nil)
		f.Add(streamOf(f, []arrow.RecordBatch{rowsOf(f, oneColumn, allLayoutRows)}))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		const limit = 1 << 20
		before := allocated()
		batches, err := readAll(stream, limit)
		if allocatedBytes := allocated() - before; allocatedBytes > 64<<20+8*uint64(len(stream)) {
			t.Errorf("allocated %d bytes for a stream of %d bytes, want at most 64 MiB plus 8 times its size; error: %v", allocatedBytes, len(stream), err)
		}
		for _, b := range batches {
			for _, column := range b.Columns() {
				_ = column.String() // accepted batches can be printed
			}
			b.Release()
		}
	})
}
