package records

import "bytes"

// inString holds true for what a JSON string holds as it is: neither control
// characters, nor quotes, nor backslashes.
var inString = func() (table [256]bool) {
	for c := ' '; c < 256; c++ {
		table[c] = c != '"' && c != '\\'
	}
	return table
}()

// findFlat finds the members asked for, as they are written, in an object of
// strings without escapes, numbers and words, as most are. Of all else it
// returns false, be it no JSON at all: then Values mean nothing.
func (s *Splitter) findFlat(line []byte) bool {
	clear(s.Values)
	if line[0] != '{' {
		return false
	}
	rest := line[1:]
	for {
		rest = skipBlanks(rest)
		n := plainString(rest)
		if n == 0 {
			return false
		}
		name := rest[1 : n-1]
		rest = skipBlanks(rest[n:])
		if len(rest) == 0 || rest[0] != ':' {
			return false
		}
		rest = skipBlanks(rest[1:])
		if n = PlainValue(rest); n == 0 {
			return false
		}
		if found, twice := s.keepMember(name, rest[:n]); twice || !found && s.only {
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

// keepMember keeps the value of a member for the fields that ask for it. It reports
// whether any does, and whether one has a value already.
func (s *Splitter) keepMember(name, value []byte) (found, twice bool) {
	if s.byName != nil {
		for _, i := range s.byName[string(name)] {
			twice = twice || s.Values[i] != nil
			s.Values[i], found = value, true
		}
		return found, twice
	}
	for i := range s.fields {
		if string(name) == s.fields[i].Name {
			twice = twice || s.Values[i] != nil
			s.Values[i], found = value, true
		}
	}
	return found, twice
}

// indexFields returns the places of each name among the fields, nil for so few that
// comparing the names is faster.
func indexFields(fields []Field) map[string][]int {
	const few = 8
	if len(fields) <= few {
		return nil
	}
	places := make(map[string][]int, len(fields))
	for i, f := range fields {
		places[f.Name] = append(places[f.Name], i)
	}
	return places
}

func skipBlanks(data []byte) []byte {
	for len(data) > 0 && (data[0] == ' ' || data[0] == '\t') {
		data = data[1:]
	}
	return data
}

// plainString returns the length of the string that data begins with, its quotes
// included, 0 if there is none or it has escapes.
func plainString(data []byte) int {
	if len(data) < 2 || data[0] != '"' {
		return 0
	}
	n := bytes.IndexByte(data[1:], '"')
	if n < 0 {
		return 0
	}
	for _, c := range data[1 : n+1] {
		if !inString[c] {
			return 0
		}
	}
	return n + 2
}

// PlainValue returns the length of the string without escapes, number or word of
// JSON that data begins with, 0 for anything else.
func PlainValue(data []byte) int {
	if len(data) == 0 {
		return 0
	}
	switch data[0] {
	case '"':
		return plainString(data)
	case 't':
		return word(data, "true")
	case 'f':
		return word(data, "false")
	case 'n':
		return word(data, "null")
	}
	return plainNumber(data)
}

func word(data []byte, w string) int {
	if len(data) >= len(w) && string(data[:len(w)]) == w {
		return len(w)
	}
	return 0
}

// plainNumber returns the length of the number that data begins with, as RFC
// 8259 has it.
func plainNumber(data []byte) int {
	i := 0
	if data[0] == '-' {
		i++
	}
	whole := Digits(data[i:])
	if whole == 0 || whole > 1 && data[i] == '0' {
		return 0
	}
	i += whole
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

// Digits returns how many digits data begins with.
func Digits(data []byte) int {
	for i, c := range data {
		if c-'0' > 9 {
			return i
		}
	}
	return len(data)
}
