package formats

import (
	"cmp"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/go-partd/partd/internal/records"
)

// Kinds of JSON's values, by how they begin.
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

// jsonText reads JSON value by value, and checks it on its way. Numbers stay the text
// that they are, so that none goes through a float64.
type jsonText struct {
	rest   []byte
	opened bool // an array or object was entered, and nothing of it was read
	bad    bool // it is no JSON; then nothing is left of it
}

// readJSON calls read, which reads the value of a text. What is no JSON is refused as
// encoding/json does it, whatever else is wrong with it.
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

// next goes to the next value or sign, and returns how it begins; 0: there is none.
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

// value returns the kind of the next value and, of what is no array or object, its
// text. Those are entered.
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

// string returns what the next value stands for, a string of n bytes; 0: it has escapes.
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

// more goes to the next element of an array, or member of an object, and returns
// false behind the last one, where the sign end is.
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

// take goes behind a sign.
func (j *jsonText) take(sign byte) {
	if j.next() != sign {
		j.rest, j.bad = nil, true
		return
	}
	j.rest = j.rest[1:]
}

// member goes to the value of the next member of an object and returns its name, or
// false behind the last one.
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
