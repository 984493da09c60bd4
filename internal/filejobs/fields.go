package filejobs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/records"
)

// splitNames returns the fields that a list such as that of --by names: the names or
// numbers between commas, with a name in quotes where it holds a comma, as in a
// line of CSV. A text that is the name of a column as a whole is that column.
func splitNames(list string, columns []string) ([]string, error) {
	if slices.Contains(columns, list) {
		return []string{list}, nil
	}
	var names []string
	for rest, more := list, true; more; {
		quoted := ""
		if strings.HasPrefix(rest, `"`) {
			end := closingQuote(rest)
			if end < 0 {
				return nil, fmt.Errorf("%q lists a field with a quote that is never closed", list)
			}
			quoted, rest = strings.ReplaceAll(rest[1:end], `""`, `"`), rest[end+1:]
		}
		var plain string
		plain, rest, more = strings.Cut(rest, ",")
		if quoted+plain == "" && (more || len(names) > 0) {
			return nil, fmt.Errorf("%q lists a field without a name", list)
		}
		names = append(names, quoted+plain)
	}
	return names, nil
}

// closingQuote finds the quote that ends a text that begins with one, -1 for
// none. Quotes written twice are part of the text.
func closingQuote(text string) int {
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] != '"':
		case i+1 < len(text) && text[i+1] == '"':
			i++
		default:
			return i
		}
	}
	return -1
}

// ResolveFields finds the fields that a list names.
func ResolveFields(list string, layout records.Layout, columns []string) ([]records.Field, error) {
	names, err := splitNames(list, columns)
	if err != nil {
		return nil, err
	}
	var fields []records.Field
	for _, name := range names {
		f, err := layout.Resolve(name, columns)
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// AppendCSV appends fields as a record of CSV has them, without a line ending.
func AppendCSV(dst []byte, fields [][]byte, sep byte) []byte {
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, sep)
		}
		dst = output.AppendCSV(dst, f, sep)
	}
	return dst
}

// fields finds the fields that the list of a flag names. A record may lack them.
func (j *job) fields(flag, list string) ([]records.Field, error) {
	fields, err := ResolveFields(list, j.From, j.Inputs.Columns)
	if err != nil {
		return nil, j.fieldError(flag, list, err)
	}
	for i := range fields {
		fields[i].Optional = true
	}
	return fields, nil
}

// fieldError says which flag named a field that is not there.
func (j *job) fieldError(flag, value string, err error) error {
	err = fmt.Errorf("--%s %q of %s, read as %s: %w%s", flag, value, j.Inputs.Files[0].Name, j.From.Format, err, j.Inputs.OtherSep(j.From))
	if j.Inputs.Columns == nil {
		return &OptionError{err}
	}
	return err
}

// nameOf returns the name of a field, or its number.
func (j *job) nameOf(f records.Field) string {
	switch {
	case j.From.Format == records.JSONL:
		return f.Name
	case f.Index < 0:
		return fmt.Sprint(f.Index)
	case f.Index < len(j.Inputs.Columns):
		return j.Inputs.Columns[f.Index]
	}
	return fmt.Sprint(f.Index + 1)
}
