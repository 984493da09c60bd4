package records

import "bytes"

var unescaped = func() (table [256]bool) {
	for c := ' '; c < 256; c++ {
		table[c] = c != '"' && c != '\\'
	}
	return table
}()

// findFlat is a faster alternative to findMembers that also validates the line. The line must be a
// flat object: each value is a number, true, false, null or a string without escapes. For other
// lines, findFlat returns false and leaves s.Values undefined.
func (s *Splitter) findFlat(line []byte) bool {
	clear(s.Values)
	if line[0] != '{' {
		return false
	}
	rest := line[1:]
	for {
		rest = skipBlanks(rest)
		n := plainStringLen(rest)
		if n == 0 {
			return false
		}
		name := rest[1 : n-1]
		rest = skipBlanks(rest[n:])
		if len(rest) == 0 || rest[0] != ':' {
			return false
		}
		rest = skipBlanks(rest[1:])
		n = PlainValue(rest)
		if n == 0 {
			return false
		}
		if isRequested, duplicate := s.storeMember(name, rest[:n]); duplicate || !isRequested && s.exclusive {
			return false
		}
		rest = skipBlanks(rest[n:])
		switch {
		case len(rest) == 1 && rest[0] == '}':
			return true
		case len(rest) == 0 || rest[0] != ',':
			return false
		}
		rest = rest[1:]
	}
}

// storeMember sets s.Values for the fields with the member's name. isRequested reports whether
// there is such a field, and duplicate reports whether such a field already had a value.
func (s *Splitter) storeMember(name, value []byte) (isRequested, duplicate bool) {
	if s.byName != nil {
		for _, i := range s.byName[string(name)] {
			duplicate = duplicate || s.Values[i] != nil
			s.Values[i], isRequested = value, true
		}
		return isRequested, duplicate
	}
	for i := range s.fields {
		if string(name) == s.fields[i].Name {
			duplicate = duplicate || s.Values[i] != nil
			s.Values[i], isRequested = value, true
		}
	}
	return isRequested, duplicate
}

// indexFields returns the fields' indexes by name, or nil if there are only a few fields, because
// comparing all names is then faster than a map.
func indexFields(fields []Field) map[string][]int {
	const maxCompared = 8
	if len(fields) <= maxCompared {
		return nil
	}
	indexes := make(map[string][]int, len(fields))
	for i, f := range fields {
		indexes[f.Name] = append(indexes[f.Name], i)
	}
	return indexes
}

func skipBlanks(data []byte) []byte {
	for len(data) > 0 && (data[0] == ' ' || data[0] == '\t') {
		data = data[1:]
	}
	return data
}

// plainStringLen returns the length, including quotes, of the JSON string at the beginning of data.
// It returns 0 if data does not begin with a complete string, or if the string contains an escape.
func plainStringLen(data []byte) int {
	if len(data) < 2 || data[0] != '"' {
		return 0
	}
	n := bytes.IndexByte(data[1:], '"')
	if n < 0 {
		return 0
	}
	for _, c := range data[1 : n+1] {
		if !unescaped[c] {
			return 0
		}
	}
	return n + 2
}

// PlainValue returns the length of the simple JSON value at the beginning of data: a string
// without escapes, a number, true, false or null. It returns 0 for other values.
func PlainValue(data []byte) int {
	if len(data) == 0 {
		return 0
	}
	switch data[0] {
	case '"':
		return plainStringLen(data)
	case 't':
		return matchWord(data, "true")
	case 'f':
		return matchWord(data, "false")
	case 'n':
		return matchWord(data, "null")
	}
	return plainNumber(data)
}

func matchWord(data []byte, w string) int {
	if len(data) >= len(w) && string(data[:len(w)]) == w {
		return len(w)
	}
	return 0
}

// plainNumber returns the length of the number (RFC 8259) at the beginning of data, or 0.
func plainNumber(data []byte) int {
	i := 0
	if data[0] == '-' {
		i++
	}
	intDigits := Digits(data[i:])
	if intDigits == 0 || intDigits > 1 && data[i] == '0' {
		return 0
	}
	i += intDigits
	if i < len(data) && data[i] == '.' {
		n := Digits(data[i+1:])
		if n == 0 {
			return 0
		}
		i += 1 + n
	}
	if i < len(data) && data[i]|0x20 == 'e' {
		i++
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		n := Digits(data[i:])
		if n == 0 {
			return 0
		}
		i += n
	}
	return i
}

// Digits returns the number of digits at the beginning of data.
func Digits(data []byte) int {
	for i, c := range data {
		if c-'0' > 9 {
			return i
		}
	}
	return len(data)
}
