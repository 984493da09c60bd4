package formats

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// arrayReader turns a JSON array into JSON lines, one for each element. It does not parse the elements; the reader of
// the lines detects errors in them.
type arrayReader struct {
	r        *bufio.Reader
	depth    int  // number of open arrays and objects
	inString bool // the current byte is in a string
	escaped  bool // the current byte follows a backslash
	hasValue bool // the current element is not empty
	isLater  bool // the current element follows a comma
	isClosed bool // the array has ended
}

var errOpenArray = errors.New("the JSON array is not closed, or has a comma before its end")

// linesOfArray returns r if it contains JSON lines. If it contains an array, linesOfArray returns a reader that
// converts the array to lines.
func linesOfArray(r io.Reader) io.Reader {
	buffered := bufio.NewReaderSize(r, 4<<10)
	head, _ := buffered.Peek(4 << 10) // The next read returns the error.
	if bytes.HasPrefix(bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\ufeff"))), []byte("[")) {
		return &arrayReader{r: buffered}
	}
	return buffered
}

func (a *arrayReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		c, err := a.r.ReadByte()
		if err == io.EOF && !a.isClosed {
			err = errOpenArray
		}
		if err != nil {
			return n, err
		}
		p[n] = a.convert(c)
		n++
	}
	return n, nil
}

// convert returns the byte that replaces c.
func (a *arrayReader) convert(c byte) byte {
	isSpace := c == ' ' || c == '\t' || c == '\r' || c == '\n'
	switch {
	case a.inString:
		a.inString, a.escaped = c != '"' || a.escaped, c == '\\' && !a.escaped
		return c
	case a.isClosed && !isSpace:
		return ']' // The reader of the lines rejects this line.
	case isSpace, a.depth == 0 && !a.hasValue && c != '[': // the second condition is for a byte order mark
		return ' '
	case c == '[' || c == '{':
		a.depth++
		if a.depth == 1 && !a.hasValue {
			return ' '
		}
	case c == ']' || c == '}':
		a.depth--
		if a.depth == 0 && c == ']' && (a.hasValue || !a.isLater) {
			a.isClosed = true
			return '\n'
		}
	case c == '"':
		a.inString = true
	case c == ',' && a.depth == 1 && a.hasValue:
		a.hasValue, a.isLater = false, true
		return '\n'
	}
	a.hasValue = true
	return c
}
