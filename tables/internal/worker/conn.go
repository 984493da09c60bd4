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

// Conn is one end of what a server and a worker talk over.
type Conn struct {
	c      net.Conn
	in     *bufio.Reader
	frames chan frame // of a worker
	left   int        // bytes of the frame of a stream that is being read
	failed error      // that the other end sent instead of the rest of a stream
}

// The kinds of frames: a byte, the length in four, the content.
const (
	aValue  = 'v' // JSON
	aFault  = 'f' // fault, in the place of what was to come
	aPiece  = 'p' // of a stream
	itsEnd  = 'e'
	maxJSON = 256 << 20 // bytes
)

type frame struct {
	kind    byte
	content []byte
}

func newConn(c net.Conn) *Conn { return &Conn{c: c, in: bufio.NewReaderSize(c, 64<<10)} }

// Send sends a value.
func (c *Conn) Send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.send(aValue, b)
}

// Reply sends a value, or why there is none.
func (c *Conn) Reply(v any, err error) error {
	if err == nil {
		return c.Send(v)
	}
	said := fault{Text: err.Error()}
	if at, ok := errors.AsType[*sqlerror.Error](err); ok {
		said = fault{at.Err.Error(), true, at.Line, at.Column}
	}
	b, err := json.Marshal(said)
	if err != nil {
		return err
	}
	return c.send(aFault, b)
}

func (c *Conn) send(kind byte, content []byte) error {
	head := binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(content)))
	_, err := (&net.Buffers{head, content}).WriteTo(c.c)
	return err
}

// Receive receives a value, or the error in its place.
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
	case f.kind == aFault:
		return f.fault()
	case f.kind != aValue:
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

// content takes no more memory than there are bytes, whatever the frame claims.
func (c *Conn) content(n int) ([]byte, error) {
	if n > maxJSON {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, c.in, int64(n)); err != nil {
		return nil, whole(err)
	}
	return b.Bytes(), nil
}

func (c *Conn) head() (kind byte, n int, err error) {
	var head [5]byte
	_, err = io.ReadFull(c.in, head[:])
	return head[0], int(binary.LittleEndian.Uint32(head[1:])), whole(err)
}

// whole makes the end of a connection an error: a stream is whole only with its own end.
func whole(err error) error {
	if err == io.EOF { //nolint:errorlint // a reader's own
		return io.ErrUnexpectedEOF
	}
	return err
}

// fault is an error on its way.
type fault struct {
	Text         string
	Statement    bool // it is a sqlerror.Error
	Line, Column int
}

func (f frame) fault() error {
	var was fault
	if err := json.Unmarshal(f.content, &was); err != nil {
		return err
	}
	err := errors.New(was.Text)
	if was.Statement {
		return &sqlerror.Error{Line: was.Line, Column: was.Column, Err: err}
	}
	return err
}
