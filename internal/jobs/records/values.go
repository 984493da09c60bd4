package records

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Values says how the texts of CSV and TSV represent values. It applies only to the fields that ask for it.
type Values struct {
	Nulls []string // unquoted fields with one of these texts are missing values, as empty fields are
}

// Check returns an error if a value of a flag is invalid. sep is the separator of the fields.
func (v *Values) Check(sep string) error {
	for _, text := range v.Nulls {
		if strings.ContainsAny(text, sep+"\"\r\n") || !utf8.ValidString(text) {
			return fmt.Errorf("--null %q: no unquoted field can have this text, because it has a quote, a separator, a line ending or invalid UTF-8", text)
		}
	}
	return nil
}

// IsNull reports whether an unquoted field is a missing value. v can be nil.
func (v *Values) IsNull(field []byte) bool {
	if v == nil {
		return false
	}
	for _, text := range v.Nulls {
		if text == string(field) {
			return true
		}
	}
	return false
}

// readValues replaces the values of the fields that are read as Layout.Values says. mayBeQuoted reports whether Quoted
// is valid.
func (s *Splitter) readValues(mayBeQuoted bool) Kind {
	first := len(s.Values) - len(s.fields)
	for _, i := range s.readFields {
		value := s.Values[first+i]
		if s.layout.Values.IsNull(value) && !(mayBeQuoted && s.Quoted[first+i]) {
			s.Values[first+i] = value[:0]
		}
	}
	return Data
}

// readColumns does the work of readValues for the records n to n+k of c.
func (s *Splitter) readColumns(c *Columns, n, k int) {
	for _, i := range s.readFields {
		to := c.To[i][n : n+k]
		for j, from := range c.From[i][n : n+k] {
			if s.layout.Values.IsNull(s.buf[from:to[j]]) {
				to[j] = from
			}
		}
	}
}
