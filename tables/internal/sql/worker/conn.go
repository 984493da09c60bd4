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
	"syscall"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// Conn is one end of the connection between the server and a worker.
type Conn struct {
	c         net.Conn
	reader    *bufio.Reader
	frames    chan frame // in a worker, the received frames; in the server, nil
	remaining int        // number of unread bytes in the current piece of a stream
	streamErr error      // the error that ended the current stream; io.EOF if the stream is complete
}

// Kinds of frames. A frame consists of a byte for its kind, the length in four bytes, and the content.
const (
	kindValue = 'v'       // JSON
	kindFault = 'f'       // an error, sent instead of a value or the rest of a stream
	kindPiece = 'p'       // a part of a stream
	kindEnd   = 'e'       // the end of a stream
	maxJSON   = 256 << 20 // maximum length of a value or an error, in bytes
)

type frame struct {
	kind    byte
	content []byte
}

func newConn(c net.Conn) *Conn { return &Conn{c: c, reader: bufio.NewReaderSize(c, 64<<10)} }

// Send sends a value as JSON.
func (c *Conn) Send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.send(kindValue, b)
}

// Reply sends err if it is not nil, and otherwise v.
func (c *Conn) Reply(v any, err error) error {
	if err == nil {
		return c.Send(v)
	}
	encoded := fault{Text: err.Error()}
	for i, cause := range sentCauses {
		encoded.Causes[i] = errors.Is(err, cause)
	}
	if statementErr, ok := errors.AsType[*sqltext.Error](err); ok {
		encoded.Text, encoded.Statement, encoded.Line, encoded.Column = statementErr.Err.Error(), true, statementErr.Line, statementErr.Column
	}
	b, err := json.Marshal(encoded)
	if err != nil {
		return err
	}
	return c.send(kindFault, b)
}

func (c *Conn) send(kind byte, content []byte) error {
	header := binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(content)))
	_, err := (&net.Buffers{header, content}).WriteTo(c.c)
	return err
}

// Receive receives a value. If an error was sent instead, Receive returns it.
func (c *Conn) Receive(v any) error {
	var f frame
	var err error
	if c.frames != nil {
		f = <-c.frames
	} else {
		f, err = c.readFrame()
	}
	switch {
	case err != nil:
		return err
	case f.kind == kindFault:
		return f.fault()
	case f.kind != kindValue:
		return fmt.Errorf("got a frame of kind %q instead of a value", f.kind)
	}
	return json.Unmarshal(f.content, v)
}

func (c *Conn) readFrame() (f frame, err error) {
	kind, n, err := c.readHeader()
	if err != nil {
		return f, err
	}
	content, err := c.readContent(n)
	return frame{kind, content}, err
}

// readContent reads the n bytes of a frame. It does not allocate n bytes in advance, because n may be wrong.
func (c *Conn) readContent(n int) ([]byte, error) {
	if n > maxJSON {
		return nil, fmt.Errorf("a frame of %d bytes exceeds the limit", n)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, c.reader, int64(n)); err != nil {
		return nil, noEOF(err)
	}
	return b.Bytes(), nil
}

func (c *Conn) readHeader() (kind byte, n int, err error) {
	var header [5]byte
	_, err = io.ReadFull(c.reader, header[:])
	return header[0], int(binary.LittleEndian.Uint32(header[1:])), noEOF(err)
}

// noEOF converts io.EOF to io.ErrUnexpectedEOF, because a complete stream ends with a frame of kind kindEnd.
func noEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // readers return io.EOF unwrapped
		return io.ErrUnexpectedEOF
	}
	return err
}

type fault struct {
	Text         string
	Statement    bool // whether the error is a sqltext.Error
	Causes       [len(sentCauses)]bool
	Line, Column int
}

// sentCauses are the errors that an error still wraps after it has been sent to the other end.
var sentCauses = [...]error{syscall.ENOSPC, syscall.EDQUOT, partd.ErrTooLarge, sqltext.ErrMemory}

func (f frame) fault() error {
	var encoded fault
	if err := json.Unmarshal(f.content, &encoded); err != nil {
		return err
	}
	err := &sqltext.CausedError{Text: encoded.Text}
	for i, isCause := range encoded.Causes {
		if isCause {
			err.Causes = append(err.Causes, sentCauses[i])
		}
	}
	if encoded.Statement {
		return &sqltext.Error{Line: encoded.Line, Column: encoded.Column, Err: err}
	}
	return err
}
