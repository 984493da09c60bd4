package arrowvalue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
)

// DefaultLimit is the memory, in bytes, that reading an append takes at most unless
// told otherwise, what the caller retains included.
const DefaultLimit = 1 << 30

// ReadOptions of Read.
type ReadOptions struct {
	// Limit of the memory that reading an append takes, in bytes, whatever the
	// value's bytes claim. 0 means [DefaultLimit].
	Limit int64
}

// Reader reads a key's batches. Those that it returns have been checked: to look
// at any value of them is safe, whoever wrote the bytes.
type Reader struct {
	key    string
	limit  int64
	value  io.Closer
	frames func() ([]byte, error, bool)
	stop   func()
	schema *arrow.Schema

	content *bytes.Reader // of the frame at hand
	ipc     *ipc.Reader   // nil behind the last frame

	references atomic.Int64
	batch      arrow.RecordBatch
	err        error
}

var _ array.RecordReader = (*Reader)(nil)

// Read reads what was appended to a key until now. A key that is empty gives an
// error that wraps fs.ErrNotExist. The caller releases the Reader.
func Read(ctx context.Context, store partd.Partd, key string, o *ReadOptions) (*Reader, error) {
	r := &Reader{key: key, limit: DefaultLimit}
	if o != nil && o.Limit > 0 {
		r.limit = o.Limit
	}
	value, err := partd.Open(ctx, store, key)
	if err != nil {
		return nil, err
	}
	r.value = value
	r.frames, r.stop = iter.Pull2(frame.Read(value, r.limit))
	r.references.Add(1)
	err = r.advance()
	if err == nil && r.ipc == nil {
		err = fmt.Errorf("nothing was appended to it (%w)", fs.ErrNotExist)
	}
	if err != nil {
		r.Release()
		return nil, r.failed(err)
	}
	return r, nil
}

func (r *Reader) failed(err error) error {
	return fmt.Errorf("arrowvalue: read %s: %w", partd.QuoteKey(r.key), err)
}

// advance goes to the next frame.
func (r *Reader) advance() error {
	if r.ipc != nil {
		r.ipc.Release()
		r.ipc = nil
	}
	content, err, ok := r.frames()
	if !ok || err != nil {
		return err
	}
	r.content = bytes.NewReader(content)
	if r.ipc, err = arrowsafe.NewReader(r.content, int64(len(content)), r.limit); err != nil {
		return err
	}
	if r.schema == nil {
		r.schema = r.ipc.Schema()
	} else if !r.schema.Equal(r.ipc.Schema()) {
		return fmt.Errorf("an append has %w", ErrSchema)
	}
	return nil
}

// Schema returns the schema of all batches.
func (r *Reader) Schema() *arrow.Schema { return r.schema }

// Next goes to the next batch.
func (r *Reader) Next() bool {
	r.batch = nil
	batch, err := r.read()
	if err != nil {
		r.err = r.failed(err)
		return false
	}
	r.batch = batch
	return batch != nil
}

// read returns the next batch, nil at the end.
func (r *Reader) read() (arrow.RecordBatch, error) {
	for r.err == nil && r.ipc != nil {
		batch, err := r.ipc.Read()
		switch {
		case errors.Is(err, io.EOF) && r.content.Len() > 0: // perhaps within a message, which the reader takes for the end
			return nil, fmt.Errorf("%d bytes behind the end of a stream", r.content.Len())
		case errors.Is(err, io.EOF): // perhaps before the dictionaries of the first batch
			err = r.advance()
		case err == nil && batch.NumRows() > r.limit: // of nulls, which take no room
			return nil, fmt.Errorf("%d rows in a batch: %w", batch.NumRows(), partd.ErrTooLarge)
		case err == nil:
			return batch, arrowsafe.Check(batch)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// RecordBatch returns the current batch. It is good until the next call of Next;
// to keep it, retain it.
func (r *Reader) RecordBatch() arrow.RecordBatch { return r.batch }

// Record is RecordBatch.
//
// Deprecated: the interface asks for it.
func (r *Reader) Record() arrow.RecordBatch { return r.batch }

// Err returns what ended the batches, nil if all were read.
func (r *Reader) Err() error { return r.err }

// Retain lets Release be called once more.
func (r *Reader) Retain() { r.references.Add(1) }

// Release ends reading.
func (r *Reader) Release() {
	if r.references.Add(-1) != 0 {
		return
	}
	if r.ipc != nil {
		r.ipc.Release()
	}
	r.stop()
	if err := r.value.Close(); err != nil {
		r.err = errors.Join(r.err, r.failed(err))
	}
}
