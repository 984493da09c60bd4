package worker

import (
	"bufio"
	"bytes"
	"cmp"
	"io"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/messages"
)

// SendBatches sends the schema of a reader, and then its batches. If reading fails, it sends the
// error.
func (c *Conn) SendBatches(r array.RecordReader) error {
	const buffer = 256 << 10
	if err := c.Send(Schema(r.Schema())); err != nil {
		return err
	}
	out := bufio.NewWriterSize(pieces{c}, buffer)
	w := ipc.NewWriter(out, ipc.WithSchema(r.Schema()))
	var err error
	for part := range messages.Rebatch(r) {
		batch := array.NewRecordBatch(r.Schema(), part.Columns(), part.NumRows()) // a reader's batches may have other metadata
		err = cmp.Or(w.Write(batch), out.Flush())
		batch.Release()
		if err != nil {
			break
		}
	}
	if err = cmp.Or(err, r.Err()); err != nil {
		return c.Reply(nil, err)
	}
	if err := cmp.Or(w.Close(), out.Flush()); err != nil {
		return err
	}
	return c.send(kindEnd, nil)
}

type pieces struct{ *Conn }

func (p pieces) Write(b []byte) (int, error) {
	if err := p.send(kindPiece, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Batches receives the batches of SendBatches.
type Batches struct {
	Schema *arrow.Schema

	c     *Conn
	limit int64
	r     *ipc.Reader
}

// ReceiveBatches receives the schema of a stream. Each batch may have limit bytes.
func (c *Conn) ReceiveBatches(limit int64) (*Batches, error) {
	var b []byte
	if err := c.Receive(&b); err != nil {
		return nil, err
	}
	c.failed, c.left = nil, 0
	s, err := ParseSchema(b)
	return &Batches{Schema: s, c: c, limit: limit}, err
}

// Next returns the next batch, which the caller must release, or nil at the end.
func (b *Batches) Next() (_ arrow.RecordBatch, err error) {
	if b.r == nil {
		b.r, err = arrowsafe.NewReader((*stream)(b.c), b.limit, b.limit)
	}
	if err == nil && b.r.Next() {
		batch := b.r.RecordBatch()
		batch.Retain()
		return batch, nil
	}
	if err == nil {
		err = b.r.Err()
	}
	return nil, b.end(err)
}

// end returns why a stream ended, or nil if it is complete.
func (b *Batches) end(err error) error {
	if err == nil {
		_, _ = io.Copy(io.Discard, (*stream)(b.c)) // drains the rest; c.failed has the error
	}
	if failed := b.c.failed; failed != nil && failed != io.EOF { //nolint:errorlint // set by advance
		return failed
	}
	if err == io.EOF { //nolint:errorlint // unwrapped, from a reader
		return nil
	}
	return err
}

// Messages yields the undecoded messages after the schema, as an alternative to Next. Each is valid
// until the next.
func (b *Batches) Messages() iter.Seq2[arrowsafe.Message, error] {
	return func(yield func(arrowsafe.Message, error) bool) {
		for m, err := range arrowsafe.Forward((*stream)(b.c), b.limit) {
			if err != nil {
				yield(m, b.end(err))
				return
			}
			if !yield(m, nil) {
				return
			}
		}
		if err := b.end(nil); err != nil {
			yield(arrowsafe.Message{}, err)
		}
	}
}

// Release releases the last batch.
func (b *Batches) Release() {
	if b.r != nil {
		b.r.Release()
	}
}

// stream reads the pieces of a stream.
type stream Conn

func (s *stream) Read(p []byte) (int, error) {
	for s.left == 0 {
		if s.failed != nil {
			return 0, s.failed
		}
		if err := s.advance(); err != nil {
			s.failed = err
		}
	}
	n, err := s.in.Read(p[:min(len(p), s.left)])
	s.left -= n
	if err != nil {
		s.failed = err
	}
	return n, err
}

// advance reads the header of the next piece.
func (s *stream) advance() error {
	c := (*Conn)(s)
	kind, n, err := c.head()
	switch {
	case err != nil:
		return err
	case kind == kindPiece:
		s.left = n
		return nil
	case kind == kindEnd:
		return io.EOF
	}
	content, err := c.content(n)
	if err != nil {
		return err
	}
	return frame{kind, content}.fault()
}

// Schema encodes a schema as bytes; nil becomes no bytes.
func Schema(s *arrow.Schema) []byte {
	if s == nil {
		return nil
	}
	var b bytes.Buffer
	_ = ipc.NewWriter(&b, ipc.WithSchema(s)).Close() // a Buffer accepts all writes
	return b.Bytes()
}

// ParseSchema decodes the result of Schema.
func ParseSchema(b []byte) (*arrow.Schema, error) {
	if len(b) == 0 {
		return nil, nil
	}
	r, err := arrowsafe.NewReader(bytes.NewReader(b), int64(len(b)), int64(len(b)))
	if err != nil {
		return nil, err
	}
	defer r.Release()
	return r.Schema(), nil
}
