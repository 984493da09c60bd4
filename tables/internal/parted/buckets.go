package parted

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"math/bits"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/tables/internal/rows/arrowvalue"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// seed is the same for all inputs and levels, and differs between processes.
var seed = maphash.MakeSeed()

// Hash returns the hash of a key.
func Hash(key []byte) uint64 { return maphash.Bytes(seed, key) }

// Buckets stores rows of one or more inputs in a temporary log store, distributed by the hashes of their keys. The rows
// of an input stay in order within each bucket.
type Buckets struct {
	Count  int    // at most 65536
	Level  int    // level n distributes the rows of one bucket of level n-1, by other bits of the hash
	Memory int64  // memory of the log store, in bytes
	Temp   string // parent of the log store's directory; "" means the system's directory for temporary data

	log          *logstore.Store // nil until the first rows
	pending      []partd.Entry
	pendingBytes int
	kept         sync.WaitGroup // counts the calls of Part.Keep without a call of release
}

// Of returns the bucket of a hash. Each level uses other bits of the hash. If no bits are left for a level, the bucket
// is 0.
func (b *Buckets) Of(hash uint64) int {
	bitsPerLevel := bits.Len(uint(b.Count - 1))
	return int(hash >> (b.Level * bitsPerLevel) % uint64(b.Count))
}

// Add appends rows to a bucket and returns their size in the log store. It takes ownership of the rows. They are
// readable after Flush.
func (b *Buckets) Add(ctx context.Context, input, bucket int, rows arrow.RecordBatch) (size int64, err error) {
	const batchBytes = 4 << 20 // minimum size of an append to the log store, except in Flush
	defer rows.Release()
	e, err := arrowvalue.Entry(bucketKey(input, bucket), rows.Schema(), rows)
	if err != nil {
		return 0, err
	}
	b.pending = append(b.pending, e)
	b.pendingBytes += len(e.Value)
	if b.pendingBytes >= batchBytes {
		err = b.Flush(ctx)
	}
	return int64(len(e.Value)), err
}

// Flush stores the rows that were added.
func (b *Buckets) Flush(ctx context.Context) (err error) {
	if len(b.pending) > 0 && b.log == nil {
		b.log, err = logstore.OpenTemp(b.Temp, &logstore.Options{Memory: min(max(b.Memory, logstore.MinMemory), logstore.MaxMemory)})
	}
	if len(b.pending) == 0 || err != nil {
		return err
	}
	err = b.log.Append(ctx, b.pending...)
	b.pending, b.pendingBytes = nil, 0
	return err
}

// Read yields the rows of a bucket with the given schema, which must be that of the added rows.
func (b *Buckets) Read(ctx context.Context, input, bucket int, columns *arrow.Schema) batches.Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		if b.log == nil {
			return
		}
		r, err := arrowvalue.Read(ctx, b.log, bucketKey(input, bucket))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return
		case err != nil:
			yield(nil, fmt.Errorf("temporary data: %w", err))
			return
		}
		defer r.Release()
		// The schema of r can differ from columns in the metadata of nested fields.
		batches.Each(r, func(rows arrow.RecordBatch) (arrow.RecordBatch, error) { return schema.Convert(rows, columns) })(yield)
	}
}

// InUse reports whether Flush has stored rows.
func (b *Buckets) InUse() bool { return b.log != nil }

// Close removes the log store.
func (b *Buckets) Close() error {
	if b.log == nil {
		return nil
	}
	return b.log.Close()
}

// bucketKey returns the log store's key for an input's rows in a bucket. Keys sort like the buckets.
func bucketKey(input, bucket int) string {
	return string(binary.AppendUvarint(binary.BigEndian.AppendUint16(nil, uint16(bucket)), uint64(input)))
}
