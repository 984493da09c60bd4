package formats

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-partd/partd/internal/jobs/records"
)

// lines iterates over the rows of a chunk of JSON lines. A row is a line that is not empty.
type lines struct {
	in        *Input
	remaining []byte
	line      int64 // number of the last line read
}

func (l *lines) next() ([]byte, error) {
	for len(l.remaining) > 0 {
		line, remaining, _ := bytes.Cut(l.remaining, []byte("\n"))
		l.remaining = remaining
		l.line++
		line = bytes.Trim(line, " \t\r") // TrimSpace would remove more than JSON's white space
		if len(line) > 0 {
			return line, nil
		}
	}
	return nil, io.EOF
}

func (l *lines) add(columns *fields) (int, error) {
	text, err := l.next()
	if err == nil {
		err = l.object(text, columns.addJSON)
	}
	return len(text), err
}

var errNotObject = errors.New("each line must be a JSON object, such as {\"price\":1.5}")

// object reads the JSON object in line. It calls read to read the members.
func (l *lines) object(line []byte, read func(*jsonReader) error) error {
	err := errNotObject
	if line[0] == '{' {
		err = readJSON(line, func(j *jsonReader) error {
			j.expect('{')
			j.line, j.justOpened = l.line, true
			return read(j)
		})
	}
	if err != nil {
		return fmt.Errorf("%s, line %d: %w", l.in.Name, l.line, err)
	}
	return nil
}

func (l *lines) inferColumns(root *column) error {
	for {
		text, err := l.next()
		if err == io.EOF {
			return nil
		}
		if err := l.object(text, func(j *jsonReader) error { return root.inferObject(j, 0) }); err != nil {
			return err
		}
	}
}

const maxJSONDepth = 100

// inferValue reads a value and restricts the column to types that can represent it.
func (c *column) inferValue(j *jsonReader, depth int) error {
	if depth > maxJSONDepth {
		return fmt.Errorf("values are nested more than %d levels deep", maxJSONDepth)
	}
	kind, text, err := j.value()
	if err != nil {
		return err
	}
	switch kind {
	case jsonBool:
		c.restrict(kindBool, j.line)
	case jsonNumber:
		c.restrict(kindsOfJSONNumber(text), j.line)
	case jsonString:
		k := kindText
		if isNonFinite(text) { // JSON has no numbers for NaN and infinities, so they are written as strings
			k |= kindFloat | kindNumber
		} else if len(text) > 0 {
			textKinds, nanos := kindsOfText(text)
			k |= textKinds & (kindDate | kindTime | kindZoned)
			c.hasNanos = c.hasNanos || nanos
		}
		c.restrict(k, j.line)
	case jsonArray:
		c.restrict(kindList, j.line)
		if c.elem == nil {
			c.elem = newColumn(c.name)
		}
		for j.more(']') {
			if err := c.elem.inferValue(j, depth+1); err != nil {
				return err
			}
		}
	case jsonObject:
		c.restrict(kindObject, j.line)
		return c.inferObject(j, depth)
	}
	return nil
}

// inferObject infers the types of an object's members. At depth 0, the members are columns.
func (c *column) inferObject(j *jsonReader, depth int) error {
	for n := 0; ; n++ {
		name, more, err := j.member()
		if !more || err != nil {
			return err
		}
		if len(bytes.TrimSpace(name)) == 0 && depth == 0 {
			return fmt.Errorf("%q is not a valid column name", name)
		}
		f, err := c.field(name, n)
		if err == nil {
			err = f.inferValue(j, depth+1)
		}
		if err != nil && depth == 0 && f != nil {
			return fmt.Errorf("column %q: %w", f.name, err)
		}
		if err != nil {
			return err
		}
	}
}

// Kinds of JSON values. Each is a byte with which such a value can start.
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
	errNotUTF8     = errors.New("the text is not valid UTF-8, or contains an unpaired surrogate")
	errInvalidJSON = errors.New("the text is not valid JSON")
)

// jsonReader reads and checks JSON, value by value. It returns numbers as text, because a float64 would lose digits.
type jsonReader struct {
	remaining  []byte
	line       int64 // number of the line; 0 if the JSON is not a line of a file
	justOpened bool  // an array or object was entered, and nothing in it has been read yet
	invalid    bool  // the JSON is invalid, so the remaining text has been dropped
}

// readJSON calls read to read the value in text. For invalid JSON, it returns encoding/json's error instead of read's.
func readJSON(text []byte, read func(*jsonReader) error) error {
	j := &jsonReader{remaining: text}
	err := read(j)
	j.peek()
	if err == nil && !j.invalid && len(j.remaining) == 0 {
		return nil
	}
	var value json.RawMessage
	return cmp.Or(json.Unmarshal(text, &value), err, errInvalidJSON)
}

// peek skips white space and returns the next byte, or 0 at the end.
func (j *jsonReader) peek() byte {
	for i, c := range j.remaining {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			j.remaining = j.remaining[i:]
			return c
		}
	}
	j.remaining = nil
	return 0
}

// value returns the kind and the text of the next value. If the value is an array or object, value enters it.
func (j *jsonReader) value() (kind byte, text []byte, err error) {
	kind = j.peek()
	if kind == jsonArray || kind == jsonObject {
		j.remaining, j.justOpened = j.remaining[1:], true
		return kind, nil, nil
	}
	n := records.PlainValue(j.remaining)
	if kind == jsonString {
		text, err = j.string(n)
		return kind, text, err
	}
	if n == 0 {
		return 0, nil, errInvalidJSON
	}
	text, j.remaining = j.remaining[:n], j.remaining[n:]
	switch kind {
	case jsonNull, jsonBool:
	case 'f':
		kind = jsonBool
	default:
		kind = jsonNumber
	}
	return kind, text, nil
}

// string returns the content of the next string. n is its length including the quotes, or 0 if it contains escapes.
func (j *jsonReader) string(n int) ([]byte, error) {
	hasEscapes := n == 0
	if hasEscapes {
		for n = 1; n < len(j.remaining) && j.remaining[n] != '"'; n++ {
			if j.remaining[n] == '\\' {
				n++
			}
		}
		n++ // include the closing quote
		if n > len(j.remaining) || !json.Valid(j.remaining[:n]) {
			return nil, errInvalidJSON
		}
	}
	text := j.remaining[1 : n-1]
	j.remaining = j.remaining[n:]
	ok := hasEscapes || utf8.Valid(text)
	if hasEscapes {
		text, ok = records.DecodeString(text)
	}
	if !ok {
		return nil, errNotUTF8
	}
	return text, nil
}

// more advances to the next element of an array or the next member of an object. After the last one, it skips the
// closing byte (end) and returns false.
func (j *jsonReader) more(end byte) bool {
	first := j.justOpened
	j.justOpened = false
	if j.peek() == end {
		j.remaining = j.remaining[1:]
		return false
	}
	if !first {
		j.expect(',')
	}
	return !j.invalid
}

// expect skips a punctuation byte. If another byte follows, it marks the JSON as invalid.
func (j *jsonReader) expect(punctuation byte) {
	if j.peek() != punctuation {
		j.remaining, j.invalid = nil, true
		return
	}
	j.remaining = j.remaining[1:]
}

// member advances to the value of an object's next member and returns the member's name, or false after the last one.
func (j *jsonReader) member() (name []byte, more bool, err error) {
	if !j.more('}') {
		return nil, false, nil
	}
	kind, name, err := j.value()
	if err == nil && kind != jsonString {
		err = errInvalidJSON
	}
	if err != nil {
		return name, true, err
	}
	j.expect(':')
	return name, true, nil
}
