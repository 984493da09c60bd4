package arrowsafe

import (
	"io"
	"iter"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Message is one of Arrow's, undecoded.
type Message struct{ Header, Body []byte }

// Forward reads the messages of a stream, which take at most limit bytes each, and
// checks them, but decodes none. Each is valid until the next one.
func Forward(r io.Reader, limit int64) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		s, body := newStream(r, limit, limit, nil), memory.NewResizableBuffer(memory.DefaultAllocator)
		defer body.Release()
		for {
			head, err := s.next(body)
			if err == io.EOF { //nolint:errorlint // the stream's own end
				return
			}
			if !yield(Message{head, body.Bytes()}, err) || err != nil {
				return
			}
		}
	}
}
