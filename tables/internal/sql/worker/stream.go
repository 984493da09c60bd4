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

	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// SendBatches sends a reader's schema and then its batches. If reading fails, it sends the error.
func (c *Conn) SendBatches(r array.RecordReader) error {
	const buffer = 256 << 10
	if err := c.Send(Schema(r.Schema())); err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(pieceWriter{c}, buffer)
	w := ipc.NewWriter(buffered, ipc.WithSchema(r.Schema()))
	var err error
	for part := range batches.Rebatch(r, nil) {
		// with r's schema, because the writer rejects a batch whose fields have other metadata
		batch := array.NewRecordBatch(r.Schema(), part.Columns(), part.NumRows())
		err = cmp.Or(w.Write(batch), buffered.Flush())
		batch.Release()
		if err != nil {
			break
		}
	}
	err = cmp.Or(err, r.Err())
	if err != nil {
		return c.Reply(nil, err)
	}
	if err := cmp.Or(w.Close(), buffered.Flush()); err != nil {
		return err
	}
	return c.send(kindEnd, nil)
}

type pieceWriter struct{ *Conn }

func (p pieceWriter) Write(b []byte) (int, error) {
	if err := p.send(kindPiece, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Batches receives the batches that the other end sends with SendBatches.
type Batches struct {
	Schema *arrow.Schema

	c     *Conn
	limit int64
	r     *ipc.Reader
}

// ReceiveBatches receives the schema of the batches. limit is the maximum size of a batch in bytes.
func (c *Conn) ReceiveBatches(limit int64) (*Batches, error) {
	var b []byte
	if err := c.Receive(&b); err != nil {
		return nil, err
	}
	c.streamErr, c.remaining = nil, 0
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
	return nil, b.endError(err)
}

// endError returns the error that ended the stream, or nil if the stream is complete. err is the decoder's error.
func (b *Batches) endError(err error) error {
	if err == nil {
		_, _ = io.Copy(io.Discard, (*stream)(b.c)) // sets streamErr when it reaches the end of the stream
	}
	if streamErr := b.c.streamErr; streamErr != nil && streamErr != io.EOF { //nolint:errorlint // advance returns io.EOF unwrapped
		return streamErr
	}
	if err == io.EOF { //nolint:errorlint // readers return io.EOF unwrapped
		return nil
	}
	return err
}

// Messages yields the encoded batches; it must not be mixed with Next. Each message is valid until the next one.
func (b *Batches) Messages() iter.Seq2[arrowsafe.Message, error] {
	return func(yield func(arrowsafe.Message, error) bool) {
		for m, err := range arrowsafe.Forward((*stream)(b.c), b.limit) {
			if err != nil {
				yield(m, b.endError(err))
				return
			}
			if !yield(m, nil) {
				return
			}
		}
		if err := b.endError(nil); err != nil {
			yield(arrowsafe.Message{}, err)
		}
	}
}

// Ended reports whether the stream has ended: it is complete, or the worker has sent an error. Otherwise, for example
// after a batch that is too large, the worker may still be sending.
func (b *Batches) Ended() bool { return b.c.streamErr != nil }

// Release releases the last batch.
func (b *Batches) Release() {
	if b.r != nil {
		b.r.Release()
	}
}

// stream implements io.Reader for a Conn's current stream. It joins the pieces.
type stream Conn

func (s *stream) Read(p []byte) (int, error) {
	for s.remaining == 0 {
		if s.streamErr != nil {
			return 0, s.streamErr
		}
		if err := s.advance(); err != nil {
			s.streamErr = err
		}
	}
	n, err := s.reader.Read(p[:min(len(p), s.remaining)])
	s.remaining -= n
	if err != nil {
		s.streamErr = err
	}
	return n, err
}

// advance moves to the next piece of the stream. Its error ends the stream.
func (s *stream) advance() error {
	c := (*Conn)(s)
	kind, n, err := c.readHeader()
	switch {
	case err != nil:
		return err
	case kind == kindPiece:
		s.remaining = n
		return nil
	case kind == kindEnd:
		return io.EOF
	}
	content, err := c.readContent(n)
	if err != nil {
		return err
	}
	return frame{kind, content}.fault()
}

// Schema encodes a schema, which may be nil.
func Schema(s *arrow.Schema) []byte {
	if s == nil {
		return nil
	}
	var b bytes.Buffer
	_ = ipc.NewWriter(&b, ipc.WithSchema(s)).Close() // a Buffer accepts all writes
	return b.Bytes()
}

// ParseSchema decodes the result of Schema, even from an untrusted source.
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
