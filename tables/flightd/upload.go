package flightd

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// upload reads, checks and counts the rows that a client sends.
type upload struct {
	flight.MessageReader
	ctx        context.Context
	checker    arrowsafe.Checker
	schema     *arrow.Schema
	memory     *rowAllocator
	extraBytes int64 // bytes reserved for the current batch in addition to its message; see reserve
	numRows    int64
	err        error
}

// allocatorKey is the context key for a put's *rowAllocator.
type allocatorKey struct{}

func newUpload(ctx context.Context, r flight.MessageReader) (*upload, error) {
	memory := ctx.Value(allocatorKey{}).(*rowAllocator) //nolint:forcetypeassert // the context of every put has one
	u := &upload{MessageReader: r, ctx: ctx, checker: arrowsafe.Checker{Limit: memory.limit()}, schema: r.Schema(), memory: memory}
	if u.schema == nil {
		return nil, kinds.BadRequest.Errorf("the stream has no schema: %v", r.Err())
	}
	return u, nil
}

func (u *upload) Schema() *arrow.Schema { return u.schema }

// Next reads and checks the next batch. It waits for the memory that the batch needs.
func (u *upload) Next() bool {
	u.memory.unreserve(u.extraBytes)
	u.extraBytes = 0
	if u.err != nil || !u.MessageReader.Next() {
		return false
	}
	b := u.RecordBatch()
	extra, err := u.checker.Check(u.ctx, b)
	if u.ctx.Err() != nil {
		u.err = err
	} else if err != nil {
		u.err = kinds.BadRequest.Errorf("%v", err)
	}
	if u.err != nil {
		return false
	}
	u.err = u.reserve(extra)
	if u.err != nil {
		return false
	}
	u.numRows += b.NumRows()
	return true
}

// reserve waits for n bytes of memory, which the batch needs in addition to the size of its message: values that share
// memory in the message will be stored separately.
func (u *upload) reserve(n int64) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = kinds.TooLarge.Errorf("%v", p)
		}
	}()
	if n > 0 {
		u.memory.reserve(n)
		u.extraBytes = n
	}
	return nil
}

func (u *upload) Err() error {
	if u.err != nil {
		return u.err
	}
	return u.MessageReader.Err()
}

// readAll returns all rows as one batch, or nil if there are none. The batch counts towards the memory for puts until
// the call ends. The caller must release the batch.
func (u *upload) readAll() (_ arrow.RecordBatch, err error) {
	var batches []arrow.RecordBatch
	defer func() {
		take.Release(batches)
		if p := recover(); p != nil { // u.memory.reserve panics at its limit
			err = kinds.TooLarge.Errorf("%v", p)
		}
	}()
	for u.Next() {
		if b := u.RecordBatch(); b.NumRows() > 0 {
			u.memory.reserve(2 * util.TotalRecordSize(b)) // for the batch, and for its copy in the result
			b.Retain()
			batches = append(batches, b)
		}
	}
	if u.Err() != nil || len(batches) == 0 {
		return nil, u.Err()
	}
	return take.Concat(batches)
}

// flightReader returns a reader of the rows in a stream of checked messages. The reader allocates decompressed buffers
// from m and returns m's panics as errors. The caller must check the reader's batches with an arrowsafe.Checker.
func flightReader(st flight.DataStreamReader, m memory.Allocator) (r *flight.Reader, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, fmt.Errorf("the schema is damaged: %v", p)
		}
	}()
	return flight.NewRecordReader(st, ipc.WithAllocator(m))
}
