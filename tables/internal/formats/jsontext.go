package formats

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
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
	errNotUTF8   = errors.New("the text is not UTF-8")
	errSurrogate = errors.New("a string has an escape that is half a surrogate pair, which is no text")
)

// jsonText reads JSON value by value. Numbers stay the text that they are, so that
// none goes through a float64.
type jsonText struct {
	rest     []byte
	unquoted []byte // the last string with escapes
}

// next returns the byte that the next value or sign begins with.
func (j *jsonText) next() (byte, error) {
	for len(j.rest) > 0 && (j.rest[0] == ' ' || j.rest[0] == '\t' || j.rest[0] == '\r' || j.rest[0] == '\n') {
		j.rest = j.rest[1:]
	}
	if len(j.rest) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return j.rest[0], nil
}

func (j *jsonText) wrong(want string) error {
	return fmt.Errorf("%.20q is not %s", j.rest, want)
}

// value returns the kind of the next value and, of what is no array or object, its
// text, which is valid until the next value. Those are entered.
func (j *jsonText) value() (kind byte, text []byte, err error) {
	c, err := j.next()
	switch {
	case err != nil:
		return 0, nil, err
	case c == jsonArray || c == jsonObject:
		j.rest = j.rest[1:]
		return c, nil, nil
	case c == jsonString:
		text, err = j.string()
		return c, text, err
	case c == '-' || c >= '0' && c <= '9':
		text, err = j.number()
		return jsonNumber, text, err
	}
	for _, word := range []string{"null", "true", "false"} {
		if text, rest := j.rest[:min(len(word), len(j.rest))], j.rest[min(len(word), len(j.rest)):]; string(text) == word {
			j.rest = rest
			if c == jsonNull {
				return c, text, nil
			}
			return jsonBool, text, nil
		}
	}
	return 0, nil, j.wrong("a value of JSON")
}

func (j *jsonText) number() ([]byte, error) {
	n := 0
	for n < len(j.rest) && (j.rest[n] >= '0' && j.rest[n] <= '9' || j.rest[n] == '-' || j.rest[n] == '+' || j.rest[n] == '.' || j.rest[n]|0x20 == 'e') {
		n++
	}
	text := j.rest[:n]
	digit := func(i int) bool { return i < n && text[i] >= '0' && text[i] <= '9' }
	first, point := 0, bytes.IndexByte(text, '.')
	if text[0] == '-' {
		first = 1
	}
	if !digit(first) || text[first] == '0' && digit(first+1) || point >= 0 && !digit(point+1) {
		return nil, j.wrong("a number of JSON")
	}
	j.rest = j.rest[n:]
	return text, nil // who takes it checks the rest
}

func (j *jsonText) string() ([]byte, error) {
	ascii := true
	for i, c := range j.rest[1:] {
		switch {
		case c == '"':
			text := j.rest[1 : i+1]
			if !ascii && !utf8.Valid(text) {
				return nil, errNotUTF8
			}
			j.rest = j.rest[i+2:]
			return text, nil
		case c == '\\':
			return j.escaped(i + 1)
		case c < ' ':
			return nil, fmt.Errorf("a string has the control character %q, which must be escaped", c)
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, io.ErrUnexpectedEOF
}

var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escaped reads a string whose first escape is at i.
func (j *jsonText) escaped(i int) ([]byte, error) {
	out := append(j.unquoted[:0], j.rest[1:i]...)
	for i < len(j.rest) {
		c := j.rest[i]
		i++
		switch {
		case c == '"':
			if !utf8.Valid(out) {
				return nil, errNotUTF8
			}
			j.rest, j.unquoted = j.rest[i:], out
			return out, nil
		case c < ' ':
			return nil, fmt.Errorf("a string has the control character %q, which must be escaped", c)
		case c != '\\':
			out = append(out, c)
			continue
		case i == len(j.rest):
			return nil, io.ErrUnexpectedEOF
		}
		if plain, ok := escapes[j.rest[i]]; ok {
			out = append(out, plain)
			i++
			continue
		}
		r, ok := hexRune(j.rest[i:])
		if !ok {
			return nil, fmt.Errorf("%.6q is no escape of JSON", j.rest[i-1:])
		}
		i += 5
		if utf16.IsSurrogate(r) {
			low, ok := rune(0), false
			if i < len(j.rest) && j.rest[i] == '\\' {
				low, ok = hexRune(j.rest[i+1:])
			}
			if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
				return nil, errSurrogate
			}
			i += 6
		}
		out = utf8.AppendRune(out, r)
	}
	return nil, io.ErrUnexpectedEOF
}

// hexRune reads what follows the backslash of an escape by number.
func hexRune(s []byte) (rune, bool) {
	if len(s) < 5 || s[0] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s[1:5]), 16, 16)
	return rune(n), err == nil
}

// more goes to element n of an array, or to the member of an object, and returns
// false behind the last one.
func (j *jsonText) more(n int, end byte) (bool, error) {
	c, err := j.next()
	switch {
	case err != nil:
		return false, err
	case c == end:
		j.rest = j.rest[1:]
		return false, nil
	case n > 0 && c != ',':
		return false, j.wrong("a comma or the end of what is open")
	case n > 0:
		j.rest = j.rest[1:]
	}
	return true, nil
}

// member goes to the value of member n of an object and returns its name, or false
// behind the last one.
func (j *jsonText) member(n int) (name []byte, more bool, err error) {
	if more, err = j.more(n, '}'); !more || err != nil {
		return nil, false, err
	}
	kind, name, err := j.value()
	if err == nil && kind != jsonString {
		return nil, false, fmt.Errorf("%.20q is no name of a member", name)
	}
	if err != nil {
		return nil, false, fmt.Errorf("the name of a member: %w", err)
	}
	c, err := j.next()
	if err == nil && c != ':' {
		err = j.wrong("a colon")
	}
	if err != nil {
		return nil, false, err
	}
	j.rest = j.rest[1:]
	return name, true, nil
}

// end returns an error if anything follows.
func (j *jsonText) end() error {
	if _, err := j.next(); err == nil {
		return fmt.Errorf("something follows the value: %.20q", j.rest)
	}
	return nil
}
