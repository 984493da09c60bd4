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

// DefaultLimit is the memory, in bytes, that reading takes at most unless told
// otherwise, what the caller retains included.
const DefaultLimit = 1 << 30

// ReadOptions of Read.
type ReadOptions struct {
	// Limit of the memory that reading takes, in bytes, whatever the value's
	// bytes claim. 0 means [DefaultLimit].
	Limit int64
}

// Reader reads a key's batches. Those that it returns have been checked: to look
// at any value of them is safe, whoever wrote the bytes.
type Reader struct {
	key    string
	limit  int64
	value  io.Closer
	stream *stream
	ipc    *ipc.Reader

	references atomic.Int64
	batch      arrow.RecordBatch
	err        error
}

var _ array.RecordReader = (*Reader)(nil)

// Read reads what was appended to a key until now. A key that is empty gives an
// error that wraps fs.ErrNotExist. The caller releases the Reader.
func Read(ctx context.Context, store partd.Partd, key string, o *ReadOptions) (*Reader, error) {
	limit := int64(DefaultLimit)
	if o != nil && o.Limit > 0 {
		limit = o.Limit
	}
	value, err := partd.Open(ctx, store, key)
	if err != nil {
		return nil, err
	}
	s := &stream{}
	s.next, s.stop = iter.Pull2(frame.Read(value, limit))
	r := &Reader{key: key, limit: limit, value: value, stream: s}
	r.references.Add(1)
	if err := s.advance(); err == io.EOF {
		r.Release()
		return nil, r.failed(fmt.Errorf("nothing was appended to it (%w)", fs.ErrNotExist))
	} else if err != nil {
		r.Release()
		return nil, r.failed(err)
	}
	if r.ipc, err = arrowsafe.NewReader(s, limit, limit); err != nil {
		r.Release()
		return nil, r.failed(err)
	}
	return r, nil
}

func (r *Reader) failed(err error) error {
	return fmt.Errorf("arrowvalue: read %s: %w", partd.QuoteKey(r.key), err)
}

// Schema returns the schema of all batches.
func (r *Reader) Schema() *arrow.Schema { return r.ipc.Schema() }

// Next goes to the next batch.
func (r *Reader) Next() bool {
	r.batch = nil
	batch, err := r.ipc.Read()
	switch {
	case r.stream.err != nil: // the reader takes some of these for the end
		err = r.stream.err
	case err == io.EOF && !r.stream.ended:
		err = errors.New("a message that ends the stream is in the middle of it")
	case r.stream.ended && errors.Is(err, io.EOF): // perhaps before the dictionaries of the first batch
		return false
	case err == nil:
		err = arrowsafe.Check(batch)
	}
	if err == nil && batch.NumRows() > r.limit { // of nulls, which take no room
		err = fmt.Errorf("%d rows in a batch: %w", batch.NumRows(), partd.ErrTooLarge)
	}
	if err != nil {
		r.err = r.failed(err)
		return false
	}
	r.batch = batch
	return true
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
	r.stream.stop()
	if err := r.value.Close(); err != nil {
		r.err = errors.Join(r.err, r.failed(err))
	}
}

// stream is the messages of all frames, the schema's only once.
type stream struct {
	next   func() ([]byte, error, bool)
	stop   func()
	left   []byte // of the frame at hand
	schema []byte // the message
	ended  bool
	err    error
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.left) == 0 {
		if err := s.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

// advance goes to the next frame.
func (s *stream) advance() error {
	content, err, ok := s.next()
	switch {
	case !ok:
		s.ended = s.err == nil
		return io.EOF
	case err == nil && len(content) == 0:
		err = errors.New("a frame is empty")
	case err == nil && content[0] == kindSchema:
		s.left, err = s.withoutSchema(content[1:])
	case err == nil && (content[0] != kindBatches || s.schema == nil):
		err = fmt.Errorf("a frame of kind %d, without a schema before it", content[0])
	case err == nil:
		s.left = content[1:]
	}
	s.err = err
	return err
}

// withoutSchema takes the schema off a frame, but of the first one.
func (s *stream) withoutSchema(messages []byte) ([]byte, error) {
	if s.schema != nil && bytes.HasPrefix(messages, s.schema) {
		return messages[len(s.schema):], nil
	}
	message, err := arrowsafe.SchemaMessage(messages)
	if err != nil {
		return nil, err
	}
	if s.schema == nil {
		s.schema = bytes.Clone(message)
		return messages, nil
	}
	return nil, fmt.Errorf("an append has %w", ErrSchema)
}
