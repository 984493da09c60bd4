package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"unicode/utf8"
)

func (s *Splitter) parseObject(line []byte) Kind {
	line = trimJSON(line)
	if len(line) == 0 {
		return Blank
	}
	if s.findFlat(line) {
		return s.decodeValues()
	}
	if !json.Valid(line) { // findMembers needs valid JSON
		var v any
		s.Err = fmt.Errorf("not JSON: %w", json.Unmarshal(line, &v))
		return Bad
	}
	if line[0] != '{' {
		s.Err = errors.New("not a JSON object")
		return Bad
	}
	if len(s.fields) == 0 {
		return Data
	}
	s.Err = s.findMembers(line)
	if s.Err != nil {
		return Bad
	}
	return s.decodeValues()
}

func (s *Splitter) decodeValues() Kind {
	s.sawRecord = true
	for i, v := range s.Values {
		if v != nil {
			s.seenFields[i], s.Bare[i] = true, v[0] != '"'
		}
	}
	s.lateErr = nil
	for i, f := range s.fields {
		s.Values[i], s.Err = s.textOf(f, s.Values[i])
		switch {
		case s.Err != nil && i >= s.lateFields:
			return Bad
		case s.lateErr == nil:
			s.lateErr = s.Err
		}
	}
	return Data
}

func (s *Splitter) findMembers(object []byte) error {
	clear(s.Values)
	for name, value := range members(object) {
		isRequested, duplicate := s.storeMember(name, value)
		if duplicate {
			return fmt.Errorf("member %q is duplicated", name)
		}
		if s.exclusive && !isRequested {
			return fmt.Errorf("member %q is not a column: the members of the first record are the columns "+
				"(to write all members into every record: partd-tables convert FILE -o NEW.jsonl)", name)
		}
	}
	return nil
}

// members yields the names and values of the members of object, which must be valid JSON.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		rest := skipSpace(object[1:])
		for rest[0] == '"' {
			n := stringLen(rest)
			name := rest[1 : n-1]
			if bytes.IndexByte(name, '\\') >= 0 {
				name = unmarshalString(name)
			}
			rest = skipSpace(skipSpace(rest[n:])[1:])
			n = valueLen(rest)
			if !yield(name, rest[:n]) {
				return
			}
			rest = skipSpace(rest[n:])
			if rest[0] == ',' {
				rest = skipSpace(rest[1:])
			}
		}
	}
}

// Members returns the member names of a record that Read has validated, or nil if the record is
// empty.
func Members(record []byte) []string {
	line := trimJSON(record)
	if len(line) == 0 {
		return nil
	}
	names := []string{}
	for name := range members(line) {
		names = append(names, string(name))
	}
	return names
}

// textOf returns the decoded text of a string. It returns numbers, true and false unchanged, and
// rejects objects and arrays. If value is null or missing, it returns nil for an optional field.
func (s *Splitter) textOf(f Field, value []byte) ([]byte, error) {
	if value == nil {
		if f.Optional {
			return nil, nil
		}
		return nil, fmt.Errorf("member %q is missing", f.Name)
	}
	if f.Raw {
		return value, nil
	}
	switch value[0] {
	case '"':
		text := value[1 : len(value)-1]
		if bytes.IndexByte(text, '\\') < 0 {
			return text, nil
		}
		decoded, ok := DecodeString(text)
		if !ok {
			return nil, fmt.Errorf("the string of member %q contains escapes that are not valid Unicode", f.Name)
		}
		return s.commit(append(s.reserve(len(decoded)), decoded...)), nil
	case 'n':
		if f.Optional {
			return nil, nil
		}
		return nil, fmt.Errorf("member %q is null", f.Name)
	case '{', '[':
		if !f.Nested {
			kind := map[byte]string{'{': "object", '[': "array"}[value[0]]
			return nil, fmt.Errorf("member %q is an %s, not a %s", f.Name, kind, f.purpose())
		}
	}
	return value, nil
}

// hasLoneSurrogate reports whether text, a JSON string without its quotes, contains only half of an
// escaped surrogate pair. Decoding would replace every such half with the same character, which
// would make different keys equal.
func hasLoneSurrogate(text []byte) bool {
	high := false // whether the previous escape was the first half of a pair
	for len(text) > 0 {
		unit, n := rune(0), 1
		if text[0] == '\\' {
			n = 2
			if text[1] == 'u' {
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

// DecodeString decodes body, a valid JSON string without its quotes. It returns false if the result
// would not be valid Unicode.
func DecodeString(body []byte) ([]byte, bool) {
	if !utf8.Valid(body) || hasLoneSurrogate(body) {
		return nil, false
	}
	return unmarshalString(body), true
}

// AppendSpelled appends text, which must be valid JSON, in a uniform spelling: without spaces between tokens, and with
// the same escapes in equal strings. Numbers and the order of members stay as they are.
func AppendSpelled(dst, text []byte) []byte {
	for len(text) > 0 {
		n := 1
		if text[0] == '"' {
			n = stringLen(text)
		}
		decoded, isString := []byte(nil), false
		if n > 1 && bytes.IndexByte(text[:n], '\\') >= 0 {
			decoded, isString = DecodeString(text[1 : n-1])
		}
		switch {
		case isString:
			dst = append(dst, '"')
			for _, c := range decoded {
				if c < ' ' || c == '"' || c == '\\' {
					dst = fmt.Appendf(dst, "\\u%04x", c)
				} else {
					dst = append(dst, c)
				}
			}
			dst = append(dst, '"')
		case !isJSONSpace(text[0]):
			dst = append(dst, text[:n]...)
		}
		text = text[n:]
	}
	return dst
}

func unmarshalString(body []byte) []byte {
	quoted := make([]byte, 0, len(body)+2)
	quoted = append(append(append(quoted, '"'), body...), '"')
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return body // unreachable: json.Valid has checked body
	}
	return []byte(text)
}

// trimJSON removes JSON's white space from both ends. bytes.TrimSpace would remove more characters, such as \v, which
// are not valid around an object.
func trimJSON(data []byte) []byte {
	data = skipSpace(data)
	for len(data) > 0 && isJSONSpace(data[len(data)-1]) {
		data = data[:len(data)-1]
	}
	return data
}

func skipSpace(data []byte) []byte {
	for i, c := range data {
		if !isJSONSpace(c) {
			return data[i:]
		}
	}
	return nil
}

func isJSONSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// stringLen returns the length of the JSON string at the beginning of data, including its
// quotes.
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
			depth--
			if depth == 0 {
				return i + 1
			}
			if depth < 0 { // the end of the enclosing object
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
