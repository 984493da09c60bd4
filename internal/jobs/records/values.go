package records

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Values says how CSV and TSV represent missing values and numbers. It applies to fields with Field.Null or Field.Number.
type Values struct {
	Nulls     []string `json:"null,omitempty"`      // unquoted fields with one of these texts are missing values, as empty fields are
	Decimal   string   `json:"decimal,omitempty"`   // decimal mark of numbers, a comma or a point; "" means a point
	Thousands string   `json:"thousands,omitempty"` // character between groups of three digits; "" means none
}

// Check returns an error if a flag's value is invalid. sep is the field separator.
func (v *Values) Check(sep string) error {
	for _, text := range v.Nulls {
		if strings.ContainsAny(text, sep+"\"\r\n") || !utf8.ValidString(text) {
			return fmt.Errorf("--null %q: an unquoted field cannot contain a quote, a separator, a line ending or invalid UTF-8", text)
		}
	}
	if v.Decimal != "" && v.Decimal != "," && v.Decimal != "." {
		return fmt.Errorf("--decimal %q: use a comma or a point", v.Decimal)
	}
	mark := cmp.Or(v.Decimal, ".")
	if v.Thousands != "" && (utf8.RuneCountInString(v.Thousands) != 1 || strings.ContainsAny(v.Thousands, "0123456789+-eE\"\r\n"+mark)) {
		return fmt.Errorf("--thousands %q: use one character that cannot be in a number and is not the decimal mark, which is %q (see --decimal)", v.Thousands, mark)
	}
	return nil
}

// isSet reports whether v differs from the default.
func (v *Values) isSet() bool { return len(v.Nulls) > 0 || v.Decimal != "" || v.Thousands != "" }

// ReadsNumbers reports whether the number format differs from the default, so that numbers must be converted. v can be nil.
func (v *Values) ReadsNumbers() bool { return v != nil && (v.Decimal == "," || v.Thousands != "") }

// wrongMark is appended to a number with a point if the decimal mark is a comma, so that nobody reads it as a number.
const wrongMark = " (wrong decimal mark)"

// AppendNumber appends a field to dst. In a number, it replaces the decimal mark by a point and omits thousands separators.
// It appends other fields unchanged, but adds wrongMark to a number with the wrong decimal mark.
func (v *Values) AppendNumber(dst, field []byte) []byte {
	start := len(dst)
	rest := bytes.Trim(field, " ")
	if len(rest) > 0 && (rest[0] == '-' || rest[0] == '+') {
		dst, rest = append(dst, rest[0]), rest[1:]
	}
	n := Digits(rest)
	count := n // number of digits
	dst, rest = append(dst, rest[:n]...), rest[n:]
	for v.Thousands != "" && 1 <= n && n <= 3 && bytes.HasPrefix(rest, []byte(v.Thousands)) && Digits(rest[len(v.Thousands):]) == 3 {
		group := rest[len(v.Thousands):][:3]
		dst, rest = append(dst, group...), rest[len(v.Thousands)+3:]
	}
	if after, ok := bytes.CutPrefix(rest, []byte(cmp.Or(v.Decimal, "."))); ok {
		n = Digits(after)
		count += n
		dst, rest = append(append(dst, '.'), after[:n]...), after[n:]
	}
	exponentLen := 0
	if len(rest) > 1 && rest[0]|0x20 == 'e' {
		exponentLen = 1
		if rest[1] == '-' || rest[1] == '+' {
			exponentLen = 2
		}
		n = Digits(rest[exponentLen:])
		exponentLen = min(n, 1) * (exponentLen + n)
	}
	dst, rest = append(dst, rest[:exponentLen]...), rest[exponentLen:]
	if count > 0 && len(rest) == 0 {
		return dst
	}
	dst = append(dst[:start], field...)
	if v.Decimal == "," && bytes.IndexByte(field, '.') >= 0 && len(bytes.Trim(field, "0123456789+-.eE ")) == 0 {
		dst = append(dst, wrongMark...)
	}
	return dst
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

// readValues converts the values of the fields in s.readFields as Layout.Values says. mayBeQuoted reports whether s.Quoted
// is valid; if not, no value is quoted.
func (s *Splitter) readValues(mayBeQuoted bool) Kind {
	first := len(s.Values) - len(s.fields)
	for _, i := range s.readFields {
		value := s.Values[first+i]
		if s.layout.Values.IsNull(value) && !(mayBeQuoted && s.Quoted[first+i]) {
			s.Values[first+i] = value[:0]
		} else if s.fields[i].Number && s.fields[i].Part == nil && Digits(value) < len(value) {
			s.Values[first+i] = s.commit(s.layout.Values.AppendNumber(s.reserve(len(value)+len(wrongMark)), value))
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
