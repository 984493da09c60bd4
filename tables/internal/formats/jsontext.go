package formats

import (
	"bytes"
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

var errNotUTF8 = errors.New("the text is not UTF-8, or has half a surrogate pair")

// jsonText reads valid JSON value by value. Numbers stay the text that they are, so
// that none goes through a float64.
type jsonText struct{ rest []byte }

// newJSONText returns what reads a text, if it is JSON.
func newJSONText(text []byte) (*jsonText, error) {
	if !json.Valid(text) {
		var none json.RawMessage
		return nil, json.Unmarshal(text, &none)
	}
	return &jsonText{text}, nil
}

// next goes to the next value or sign, and returns how it begins.
func (j *jsonText) next() byte {
	for j.rest[0] == ' ' || j.rest[0] == '\t' || j.rest[0] == '\r' || j.rest[0] == '\n' {
		j.rest = j.rest[1:]
	}
	return j.rest[0]
}

// value returns the kind of the next value and, of what is no array or object, its
// text. Those are entered.
func (j *jsonText) value() (kind byte, text []byte, err error) {
	kind = j.next()
	switch kind {
	case jsonArray, jsonObject:
		j.rest = j.rest[1:]
		return kind, nil, nil
	case jsonString:
		text, err = j.string()
		return kind, text, err
	}
	end := bytes.IndexAny(j.rest, ",]} \t\r\n")
	if end < 0 {
		end = len(j.rest)
	}
	text, j.rest = j.rest[:end], j.rest[end:]
	switch kind {
	case jsonNull, jsonBool:
	case 'f':
		kind = jsonBool
	default:
		kind = jsonNumber
	}
	return kind, text, nil
}

func (j *jsonText) string() ([]byte, error) {
	escaped, i := false, 1
	for ; j.rest[i] != '"'; i++ {
		if j.rest[i] == '\\' {
			escaped = true
			i++
		}
	}
	text := j.rest[1:i]
	j.rest = j.rest[i+1:]
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
// false behind the last one.
func (j *jsonText) more() bool {
	c := j.next()
	if c == ',' || c == ']' || c == '}' {
		j.rest = j.rest[1:]
	}
	return c != ']' && c != '}'
}

// member goes to the value of the next member of an object and returns its name, or
// false behind the last one.
func (j *jsonText) member() (name []byte, more bool, err error) {
	if more = j.more(); !more {
		return nil, false, nil
	}
	_, name, err = j.value()
	j.next()
	j.rest = j.rest[1:] // the colon
	return name, true, err
}
