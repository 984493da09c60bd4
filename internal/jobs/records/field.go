package records

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/base/where"
)

// Field identifies a field in a record.
type Field struct {
	Name     string // JSONL: member name
	Index    int    // other formats: index from 0, or from the end (-1 is the last)
	Optional bool   // JSONL: the member can be missing or null
	Raw      bool   // JSONL: the value is returned as JSON, and can be of any kind
	Nested   bool   // JSONL: the value can be an object or an array, which is returned as JSON

	Null   bool // CSV and TSV: a text in [Values].Nulls is returned as an empty value
	Number bool // CSV and TSV: a number is returned as [Values.AppendNumber] appends it, unless Part is set

	Part *where.Part // the part of the value to return; nil returns all of it
}

func (f Field) purpose() string {
	if f.Optional {
		return "single value"
	}
	return "key"
}

// ErrFieldZero is the error for the field number 0, which is invalid.
var ErrFieldZero = errors.New("there is no field 0: fields are numbered from 1, or from the end (-1 is the last)")

// Resolve returns the field with the given name. If no column has exactly this name, it can be a part
// of a column, such as lower(x), or a number that counts from 1, or from the end (-1 is the last).
// columns holds the names in the header, or is nil if there is no header.
func (l Layout) Resolve(name string, columns []string) (Field, error) {
	if !slices.Contains(columns, name) {
		part, rest, err := where.ParsePart(name)
		if err == nil && part != nil && rest != "" {
			err = fmt.Errorf("%q follows the closing parenthesis", rest)
		}
		if err != nil {
			return Field{}, err
		}
		if part != nil {
			f, err := l.ResolveColumn(part.Column, columns)
			f.Part = part
			return f, err
		}
	}
	return l.ResolveColumn(name, columns)
}

// ResolveColumn is like Resolve, but does not accept parts of columns.
func (l Layout) ResolveColumn(name string, columns []string) (Field, error) {
	switch {
	case l.Format == JSONL && columns != nil && !slices.Contains(columns, name):
		return Field{}, noColumn(name, columns)
	case l.Format == JSONL:
		return Field{Name: name}, nil
	}
	first := slices.Index(columns, name)
	if first >= 0 {
		if second := slices.Index(columns[first+1:], name); second >= 0 {
			return Field{}, fmt.Errorf("columns %d and %d are both named %q: use one of the numbers",
				first+1, first+second+2, name)
		}
	}
	n, err := strconv.Atoi(name)
	position := n - 1
	if n < 0 {
		position = len(columns) + n
	}
	if first >= 0 {
		if err == nil && position != first && 0 <= position && position < len(columns) {
			return Field{}, fmt.Errorf("%q is the name of column %d, but also the number of column %d (%q): use %d for column %d, or %d for column %d; "+
				"if the first record is not a header, add --no-header", name, first+1, position+1, columns[position],
				first-len(columns), first+1, position-len(columns), position+1)
		}
		return Field{Index: first}, nil
	}
	switch {
	case err == nil && n > 0 && l.Format == Text: // columns describes the first record; other records can have more or fewer fields
		return Field{Index: n - 1}, nil
	case err == nil && n < 0 && l.Format == Text:
		return Field{Index: n}, nil
	case err != nil && columns != nil:
		return Field{}, noColumn(name, columns)
	case err != nil:
		return Field{}, fmt.Errorf("without a header, a field must be a number from 1, or from the end (-1 is the last), not %q", name)
	case n == 0:
		return Field{}, ErrFieldZero
	case columns != nil && (n > len(columns) || n < -len(columns)):
		return Field{}, fmt.Errorf("there is no column %d; the columns are %s", n, listColumns(columns))
	case n < 0 && columns == nil:
		return Field{Index: n}, nil
	}
	return Field{Index: position}, nil
}

func noColumn(name string, columns []string) error {
	return fmt.Errorf("no column is named %q%s%s; the columns are %s", name, textfmt.Hint(name, columns), where.PartHint(name), listColumns(columns))
}

func listColumns(columns []string) string {
	const maxListed = 60
	var listed []string
	for i, c := range columns[:min(len(columns), maxListed)] {
		listed = append(listed, fmt.Sprintf("%d %q", i+1, c))
	}
	text := strings.Join(listed, ", ")
	if len(columns) > maxListed {
		text += fmt.Sprintf(" … (%d columns)", len(columns))
	}
	return text
}

// DiffColumns describes the differences between two headers, or returns "" if they are equal.
func DiffColumns(a, b []string) string {
	var diffs []string
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			diffs = append(diffs, fmt.Sprintf("column %d: none and %q", i+1, b[i]))
		case i >= len(b):
			diffs = append(diffs, fmt.Sprintf("column %d: %q and none", i+1, a[i]))
		case a[i] != b[i]:
			diffs = append(diffs, fmt.Sprintf("column %d: %q and %q", i+1, a[i], b[i]))
		}
	}
	const maxDiffs = 5
	if len(diffs) > maxDiffs {
		diffs = append(diffs[:maxDiffs], fmt.Sprintf("and %d more", len(diffs)-maxDiffs))
	}
	return strings.Join(diffs, "; ")
}
