package arrowsafe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
)

// stream reads and checks the messages of an Arrow stream. It replaces Arrow's own message reader, which trusts the
// lengths in messages and sometimes accepts a stream that ends within a message.
type stream struct {
	r          io.Reader
	size       int64 // maximum size of a message, in bytes
	mem        memory.Allocator
	checks     *Messages
	last       *ipc.Message
	references atomic.Int64
}

// newStream returns a stream of messages of at most size bytes each. memoryLimit is the limit for [NewMessages].
func newStream(r io.Reader, size, memoryLimit int64, mem memory.Allocator) *stream {
	s := &stream{r: r, size: size, mem: mem, checks: NewMessages(memoryLimit)}
	s.references.Store(1)
	return s
}

// Message, Retain and Release implement ipc.MessageReader.
func (s *stream) Message() (*ipc.Message, error) {
	body := memory.NewResizableBuffer(s.mem)
	defer body.Release()
	head, err := s.next(body)
	if err != nil {
		return nil, err
	}
	s.releaseLast()
	s.last = ipc.NewMessage(memory.NewBufferBytes(head), body)
	return s.last, nil
}

// next reads and checks a message. It returns the message's description and reads the message's body into body.
func (s *stream) next(body *memory.Buffer) (head []byte, err error) {
	var word [4]byte
	if _, err := io.ReadFull(s.r, word[:]); err != nil {
		return nil, err // io.EOF is correct here: the end marker of a stream is optional
	}
	marked := binary.LittleEndian.Uint32(word[:]) == 1<<32-1 // Arrow before 0.15 did not mark messages
	if marked {
		if err := s.readFull(word[:]); err != nil {
			return nil, err
		}
	}
	length := int64(int32(binary.LittleEndian.Uint32(word[:])))
	switch {
	case length == 0:
		return nil, io.EOF
	case length > 0 && length <= min(s.size, maxDescription):
		head = make([]byte, length)
	case marked:
		return nil, fmt.Errorf("%w: its description has %d bytes: %w", errMessage, length, partd.ErrTooLarge)
	default:
		return nil, fmt.Errorf("%w: it begins with %x", errMessage, word)
	}
	if err := s.readFull(head); err != nil {
		return nil, err
	}
	if err := s.fill(body, head); err != nil {
		return nil, err
	}
	return head, s.checks.Check(head, body.Bytes())
}

// fill reads the body of the message whose description is head.
func (s *stream) fill(body *memory.Buffer, head []byte) (err error) {
	defer func() {
		if p := recover(); p != nil { // an offset was outside the message, or mem reached its limit
			if e, ok := p.(error); ok && errors.Is(e, partd.ErrTooLarge) {
				err = e
			} else {
				err = fmt.Errorf("%w: %v", errMessage, p)
			}
		}
	}()
	d, err := describe(head)
	if err != nil {
		return err
	}
	if d.body < 0 || d.body > s.size {
		return fmt.Errorf("%w: it claims a body of %d bytes: %w", errMessage, d.body, partd.ErrTooLarge)
	}
	body.ResizeNoShrink(int(d.body))
	return s.readFull(body.Bytes())
}

func (s *stream) readFull(p []byte) error {
	_, err := io.ReadFull(s.r, p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (s *stream) releaseLast() {
	if s.last != nil {
		s.last.Release()
		s.last = nil
	}
}

func (s *stream) Retain() { s.references.Add(1) }

func (s *stream) Release() {
	if s.references.Add(-1) == 0 {
		s.releaseLast()
	}
}

// Message is an undecoded Arrow message.
type Message struct{ Header, Body []byte }

// Rows returns the number of rows in a batch's message, or 0 for other messages.
func (m Message) Rows() int64 {
	d, err := describe(m.Header)
	if err != nil || d.kind != typeBatch {
		return 0
	}
	return d.header.GetInt64Slot(batchLength, 0)
}

// Forward reads and checks messages of at most limit bytes without decoding them. Each message is valid until the next
// one is read.
func Forward(r io.Reader, limit int64) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		s, body := newStream(r, limit, limit, nil), memory.NewResizableBuffer(memory.DefaultAllocator)
		defer body.Release()
		for {
			head, err := s.next(body)
			if err == io.EOF { //nolint:errorlint // the end of the stream
				return
			}
			if !yield(Message{head, body.Bytes()}, err) || err != nil {
				return
			}
		}
	}
}
