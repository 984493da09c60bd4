package worker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/go-partd/partd/tables/internal/sqlerror"
)

// Conn is one end of the connection between a server and a worker.
type Conn struct {
	c      net.Conn
	in     *bufio.Reader
	frames chan frame // from a worker
	left   int        // bytes left in the current frame of a stream
	failed error      // the error that the other end sent instead of the rest of a stream
}

// Kinds of frames. A frame has the byte of its kind, the length in four bytes, and the content.
const (
	kindValue = 'v' // JSON
	kindFault = 'f' // an error instead of the next frame
	kindPiece = 'p' // a part of a stream
	kindEnd   = 'e'
	maxJSON   = 256 << 20 // bytes
)

type frame struct {
	kind    byte
	content []byte
}

func newConn(c net.Conn) *Conn { return &Conn{c: c, in: bufio.NewReaderSize(c, 64<<10)} }

// Send sends a value as JSON.
func (c *Conn) Send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.send(kindValue, b)
}

// Reply sends a value or, if err is not nil, the error.
func (c *Conn) Reply(v any, err error) error {
	if err == nil {
		return c.Send(v)
	}
	encoded := fault{Text: err.Error()}
	if at, ok := errors.AsType[*sqlerror.Error](err); ok {
		encoded = fault{at.Err.Error(), true, at.Line, at.Column}
	}
	b, err := json.Marshal(encoded)
	if err != nil {
		return err
	}
	return c.send(kindFault, b)
}

func (c *Conn) send(kind byte, content []byte) error {
	head := binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(content)))
	_, err := (&net.Buffers{head, content}).WriteTo(c.c)
	return err
}

// Receive receives a value, or returns the error sent instead.
func (c *Conn) Receive(v any) error {
	var f frame
	var err error
	if c.frames != nil {
		f = <-c.frames
	} else {
		f, err = c.read()
	}
	switch {
	case err != nil:
		return err
	case f.kind == kindFault:
		return f.fault()
	case f.kind != kindValue:
		return fmt.Errorf("a frame of kind %q in the place of a value", f.kind)
	}
	return json.Unmarshal(f.content, v)
}

func (c *Conn) read() (f frame, err error) {
	kind, n, err := c.head()
	if err != nil {
		return f, err
	}
	content, err := c.content(n)
	return frame{kind, content}, err
}

// content reads the content of a frame. It allocates no more memory than it receives, whatever
// length the frame claims.
func (c *Conn) content(n int) ([]byte, error) {
	if n > maxJSON {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, c.in, int64(n)); err != nil {
		return nil, noEOF(err)
	}
	return b.Bytes(), nil
}

func (c *Conn) head() (kind byte, n int, err error) {
	var head [5]byte
	_, err = io.ReadFull(c.in, head[:])
	return head[0], int(binary.LittleEndian.Uint32(head[1:])), noEOF(err)
}

// noEOF converts io.EOF to io.ErrUnexpectedEOF: a complete stream ends with its own mark.
func noEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // unwrapped, from a reader
		return io.ErrUnexpectedEOF
	}
	return err
}

// fault is the encoded form of an error.
type fault struct {
	Text         string
	Statement    bool // it is a sqlerror.Error
	Line, Column int
}

func (f frame) fault() error {
	var encoded fault
	if err := json.Unmarshal(f.content, &encoded); err != nil {
		return err
	}
	err := errors.New(encoded.Text)
	if encoded.Statement {
		return &sqlerror.Error{Line: encoded.Line, Column: encoded.Column, Err: err}
	}
	return err
}
