package formats

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-partd/partd/internal/records"
)

// lines are the rows of a chunk: the lines that are not empty.
type lines struct {
	in   *Input
	rest []byte
	line int64 // number of the last line read
}

// next returns the next line, or io.EOF after the last.
func (l *lines) next() ([]byte, error) {
	for len(l.rest) > 0 {
		line, rest, _ := bytes.Cut(l.rest, []byte("\n"))
		l.rest = rest
		l.line++
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
	return nil, io.EOF
}

func (l *lines) add(to *fields) (int, error) {
	text, err := l.next()
	if err == nil {
		err = l.object(text, to.addJSON)
	}
	return len(text), err
}

var errNoObject = errors.New("a line must be a JSON object, as in {\"price\":1.5}")

// object reads the JSON object in a line. It calls read for the members.
func (l *lines) object(line []byte, read func(*jsonText) error) error {
	err := errNoObject
	if line[0] == '{' {
		err = readJSON(line, func(j *jsonText) error {
			j.take('{')
			j.opened = true
			return read(j)
		})
	}
	if err != nil {
		return fmt.Errorf("%s, line %d: %w", l.in.Name, l.line, err)
	}
	return nil
}

func (l *lines) see(root *column) error {
	for {
		text, err := l.next()
		if err == io.EOF {
			return nil
		}
		if err := l.object(text, func(j *jsonText) error { return root.seeObject(j, 0) }); err != nil {
			return err
		}
	}
}

const maxJSONDepth = 100

// seeJSON reads a value, and records its kind.
func (c *column) seeJSON(j *jsonText, depth int) error {
	if depth > maxJSONDepth {
		return fmt.Errorf("values more than %d deep in each other", maxJSONDepth)
	}
	kind, text, err := j.value()
	if err != nil {
		return err
	}
	switch kind {
	case jsonBool:
		c.restrict(kindBool)
	case jsonNumber:
		if k := kindsOfNumber(text); k != 0 {
			c.restrict(k)
		} else {
			c.restrict(kindFloat)
		}
	case jsonString:
		k := kindText
		if isNoNumber(text) { // JSON has no such numbers
			k |= kindFloat
		} else if len(text) > 0 {
			of, nanos := kindsOfText(text)
			k |= of & (kindDate | kindTime | kindZoned)
			c.nanos = c.nanos || nanos
		}
		c.restrict(k)
	case jsonArray:
		c.restrict(kindList)
		if c.elem == nil {
			c.elem = newColumn(c.name)
		}
		for j.more(']') {
			if err := c.elem.seeJSON(j, depth+1); err != nil {
				return err
			}
		}
	case jsonObject:
		c.restrict(kindObject)
		return c.seeObject(j, depth)
	}
	return nil
}

func (c *column) seeObject(j *jsonText, depth int) error {
	for n := 0; ; n++ {
		name, more, err := j.member()
		if !more || err != nil {
			return err
		}
		if len(bytes.TrimSpace(name)) == 0 && depth == 0 {
			return fmt.Errorf("%q is no name of a column", name)
		}
		f, err := c.field(name, n)
		if err == nil {
			err = f.seeJSON(j, depth+1)
		}
		if err != nil && depth == 0 && f != nil {
			return fmt.Errorf("column %q: %w", f.name, err)
		}
		if err != nil {
			return err
		}
	}
}

// Kinds of JSON values, by their first byte.
const (
	jsonNull   = 'n'
	jsonBool   = 't'
	jsonNumber = '0'
	jsonString = '"'
	jsonArray  = '['
	jsonObject = '{'
)

var jsonKinds = map[byte]string{jsonBool: "a bool", jsonNumber: "a number", jsonString: "a string", jsonArray: "an array", jsonObject: "an object"}

var (
	errNotUTF8 = errors.New("the text is not UTF-8, or has half a surrogate pair")
	errNoJSON  = errors.New("the text is no JSON")
)

// jsonText reads and checks JSON value by value. Numbers stay text, so that none loses digits in a
// float64.
type jsonText struct {
	rest   []byte
	opened bool // an array or object was entered, and nothing in it was read
	bad    bool // invalid JSON; the rest is then dropped
}

// readJSON calls read, which reads the value of a text. For invalid JSON, it returns the
// error of encoding/json, even if read reports another one.
func readJSON(text []byte, read func(*jsonText) error) error {
	j := &jsonText{rest: text}
	err := read(j)
	j.next()
	if err == nil && !j.bad && len(j.rest) == 0 {
		return nil
	}
	var none json.RawMessage
	return cmp.Or(json.Unmarshal(text, &none), err, errNoJSON)
}

// next skips to the next value or punctuation, and returns its first byte, or 0 at the end.
func (j *jsonText) next() byte {
	for i, c := range j.rest {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			j.rest = j.rest[i:]
			return c
		}
	}
	j.rest = nil
	return 0
}

// value returns the kind of the next value, and its text. It enters an array or object.
func (j *jsonText) value() (kind byte, text []byte, err error) {
	kind = j.next()
	if kind == jsonArray || kind == jsonObject {
		j.rest, j.opened = j.rest[1:], true
		return kind, nil, nil
	}
	n := records.PlainValue(j.rest)
	if kind == jsonString {
		text, err = j.string(n)
		return kind, text, err
	}
	if n == 0 {
		return 0, nil, errNoJSON
	}
	text, j.rest = j.rest[:n], j.rest[n:]
	switch kind {
	case jsonNull, jsonBool:
	case 'f':
		kind = jsonBool
	default:
		kind = jsonNumber
	}
	return kind, text, nil
}

// string returns the content of the next string. n is its length with the quotes, or 0 if it has
// escapes.
func (j *jsonText) string(n int) ([]byte, error) {
	escaped := n == 0
	if escaped {
		for n = 1; n < len(j.rest) && j.rest[n] != '"'; n++ {
			if j.rest[n] == '\\' {
				n++
			}
		}
		n++ // the quote
		if n > len(j.rest) || !json.Valid(j.rest[:n]) {
			return nil, errNoJSON
		}
	}
	text := j.rest[1 : n-1]
	j.rest = j.rest[n:]
	ok := escaped || utf8.Valid(text)
	if escaped {
		text, ok = records.DecodeString(text)
	}
	if !ok {
		return nil, errNotUTF8
	}
	return text, nil
}

// more advances to the next element of an array, or member of an object. After the last one, it
// consumes the byte end and returns false.
func (j *jsonText) more(end byte) bool {
	first := j.opened
	j.opened = false
	if j.next() == end {
		j.rest = j.rest[1:]
		return false
	}
	if !first {
		j.take(',')
	}
	return !j.bad
}

// take skips a byte of punctuation.
func (j *jsonText) take(sign byte) {
	if j.next() != sign {
		j.rest, j.bad = nil, true
		return
	}
	j.rest = j.rest[1:]
}

// member advances to the value of an object's next member and returns its name, or false
// after the last one.
func (j *jsonText) member() (name []byte, more bool, err error) {
	if !j.more('}') {
		return nil, false, nil
	}
	kind, name, err := j.value()
	if err == nil && kind != jsonString {
		err = errNoJSON
	}
	if err == nil {
		j.take(':')
	}
	return name, true, err
}
