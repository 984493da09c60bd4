package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// keyOfJSON finds the value of a member of the JSON object on a line. The
// object is checked as a whole, by encoding/json; the search that follows
// relies on it.
func (s *Splitter) keyOfJSON(line []byte) Kind {
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return Blank
	}
	if !json.Valid(line) {
		var v any
		s.Err = fmt.Errorf("not JSON: %w", json.Unmarshal(line, &v))
		return Bad
	}
	if line[0] != '{' {
		s.Err = errors.New("not a JSON object")
		return Bad
	}
	value, err := s.member(line)
	if err == nil {
		value, err = s.keyText(value)
	}
	if err != nil {
		s.Err = err
		return Bad
	}
	return s.found(value)
}

// member returns the value of the wanted member as it is written.
func (s *Splitter) member(object []byte) (value []byte, err error) {
	rest := skipSpace(object[1:])
	for rest[0] == '"' {
		n := stringLen(rest)
		name := rest[1 : n-1]
		rest = skipSpace(skipSpace(rest[n:])[1:])
		n = valueLen(rest)
		same := string(name) == s.field.Name
		if bytes.IndexByte(name, '\\') >= 0 {
			same = string(decodeString(name)) == s.field.Name
		}
		if same {
			if value != nil {
				return nil, fmt.Errorf("there are two members %q", s.field.Name)
			}
			value = rest[:n]
		}
		rest = skipSpace(rest[n:])
		if rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
	}
	if value == nil {
		return nil, fmt.Errorf("there is no member %q", s.field.Name)
	}
	return value, nil
}

// keyText returns the key that a value stands for: a string decoded, numbers,
// true and false as they are written.
func (s *Splitter) keyText(value []byte) ([]byte, error) {
	switch value[0] {
	case '"':
		text := value[1 : len(value)-1]
		if bytes.IndexByte(text, '\\') < 0 {
			return text, nil
		}
		if !utf8.Valid(text) || halfSurrogate(text) {
			return nil, fmt.Errorf("the string of member %q has escapes, and holds what is no Unicode text", s.field.Name)
		}
		return s.keep(decodeString(text)), nil
	case 'n':
		return nil, fmt.Errorf("member %q is null", s.field.Name)
	case '{':
		return nil, fmt.Errorf("member %q is an object, which is no key", s.field.Name)
	case '[':
		return nil, fmt.Errorf("member %q is an array, which is no key", s.field.Name)
	}
	return value, nil
}

// halfSurrogate tells whether the inside of a JSON string has an escape that is
// half of a pair. Decoding would make a replacement character of each, and so
// one key of two.
func halfSurrogate(text []byte) bool {
	high := false // the escape before this one was the first of a pair
	for len(text) > 0 {
		unit, n := rune(0), 1
		if text[0] == '\\' {
			if n = 2; text[1] == 'u' {
				n = 6
				v, _ := strconv.ParseUint(string(text[2:6]), 16, 16)
				unit = rune(v)
			}
		}
		low := unit >= 0xdc00 && unit < 0xe000
		if low != high {
			return true
		}
		high = unit >= 0xd800 && unit < 0xdc00
		text = text[n:]
	}
	return high
}

// decodeString decodes the inside of a JSON string that is known to be valid.
func decodeString(inside []byte) []byte {
	quoted := make([]byte, 0, len(inside)+2)
	quoted = append(append(append(quoted, '"'), inside...), '"')
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return inside // impossible after json.Valid
	}
	return []byte(text)
}

func skipSpace(data []byte) []byte {
	for i, c := range data {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return data[i:]
		}
	}
	return nil
}

// stringLen returns the length of the JSON string that data begins with, its
// quotes included.
func stringLen(data []byte) int {
	for i := 1; ; {
		i += bytes.IndexByte(data[i:], '"') + 1
		slashes := 0
		for data[i-2-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
}

// valueLen returns the length of the JSON value that data begins with.
func valueLen(data []byte) int {
	depth := 0
	for i := 0; ; {
		switch data[i] {
		case '"':
			i += stringLen(data[i:])
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 { // the end of the object around a number or a word
				return i
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
		i++
	}
}
