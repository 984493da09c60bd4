package textfmt

import (
	"bytes"
	"strings"
)

// QuotedFirst lists the bytes that an unquoted CSV field must not begin with. Some programs skip white space before a
// field or in an empty line, and all of them take U+FEFF at the start of a file for a byte order mark.
const QuotedFirst = " \t\v\f\xef"

// AppendCSV appends a CSV field, quoted if necessary. nulls lists the texts that readers treat as null unless they are
// quoted, such as "" or NA.
func AppendCSV(dst, field []byte, sep byte, nulls ...string) []byte {
	needsQuotes := len(field) > 0 && strings.IndexByte(QuotedFirst, field[0]) >= 0 || hasSpecial(field, sep)
	for _, null := range nulls {
		needsQuotes = needsQuotes || string(field) == null
	}
	if !needsQuotes {
		return append(dst, field...)
	}
	return append(AppendDoubled(append(dst, '"'), field), '"')
}

// AppendInner is like [AppendCSV] for a field within a text, such as one of a key's fields or an element of a list. Only
// separators, quotes and line endings need quotes there.
func AppendInner(dst, field []byte, sep byte) []byte {
	if !hasSpecial(field, sep) {
		return append(dst, field...)
	}
	return append(AppendDoubled(append(dst, '"'), field), '"')
}

// AppendDoubled appends the content of a quoted CSV field, with each quote doubled.
func AppendDoubled(dst, field []byte) []byte {
	for {
		q := bytes.IndexByte(field, '"')
		if q < 0 {
			return append(dst, field...)
		}
		dst = append(append(dst, field[:q+1]...), '"')
		field = field[q+1:]
	}
}

// hasSpecial reports whether a field contains a byte that requires quotes wherever it occurs.
func hasSpecial(field []byte, sep byte) bool {
	const short = 16
	if len(field) > short {
		return bytes.IndexByte(field, sep) >= 0 || bytes.IndexByte(field, '"') >= 0 ||
			bytes.IndexByte(field, '\n') >= 0 || bytes.IndexByte(field, '\r') >= 0
	}
	for _, c := range field {
		if c == sep || c == '"' || c == '\n' || c == '\r' {
			return true
		}
	}
	return false
}
