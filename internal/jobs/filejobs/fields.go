package filejobs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/base/where"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
)

// fieldName is a name in a list of fields.
type fieldName struct {
	text     string
	isQuoted bool   // text is a column name even if it looks like a part, such as before(x, '/')
	suffix   string // the text after a quoted name, such as ":desc"
	alias    string // the name in the output, or ""
}

func (n fieldName) resolve(layout records.Layout, columns []string) (records.Field, error) {
	switch {
	case n.suffix != "":
		return records.Field{}, fmt.Errorf("%q follows the closing quote of %q", n.suffix, n.text)
	case n.isQuoted:
		return layout.ResolveColumn(n.text, columns)
	}
	return layout.Resolve(n.text, columns)
}

// cutName cuts a column name, a part such as before(x, '/') or a quoted name from the beginning of list. If list begins
// with none of these, name.text is empty and rest is list.
func cutName(list string, columns []string) (name fieldName, rest string, err error) {
	if column := leadingColumn(list, columns); column != "" {
		return fieldName{text: column}, list[len(column):], nil
	}
	if quoted, rest, ok := where.CutQuoted(list); ok {
		return fieldName{text: quoted, isQuoted: true}, rest, nil
	}
	if strings.HasPrefix(list, `"`) {
		return name, list, fmt.Errorf("the list of fields %q contains an unclosed quote", list)
	}
	part, rest, err := where.ParsePart(list)
	if part != nil {
		name.text = part.Text
	}
	return name, rest, err
}

// splitNames splits a list of fields, such as the value of --by, at its commas. A name that
// contains a comma can be quoted as in CSV.
func splitNames(list string, columns []string) ([]fieldName, error) {
	var names []fieldName
	for rest, more := list, true; more; {
		name, after, err := cutName(rest, columns)
		if err != nil {
			return nil, err
		}
		rest, more, err = name.finish(after)
		if err != nil {
			return nil, err
		}
		if name.text == "" && (more || len(names) > 0) {
			return nil, fmt.Errorf("the list of fields %q contains an empty name", list)
		}
		names = append(names, name)
	}
	return names, nil
}

// finish completes a name from cutName with the text before the next comma. It returns the list after the comma, and
// reports whether there is a comma.
func (n *fieldName) finish(list string) (rest string, more bool, err error) {
	var plain string
	plain, n.alias, rest, more, err = where.CutElement(list)
	if n.isQuoted {
		n.suffix = plain
	} else {
		n.text += plain
	}
	return rest, more, err
}

// leadingColumn returns the longest column name at the beginning of list that ends where a name can
// end, or "". A name with commas must be quoted if each of its parts between commas is also a
// column's name.
func leadingColumn(list string, columns []string) (name string) {
	isNoColumn := func(part string) bool { return !slices.Contains(columns, part) }
	for _, c := range columns {
		rest, ok := strings.CutPrefix(list, c)
		if !ok || len(c) <= len(name) || rest != "" && rest[0] != ',' && rest[0] != ':' && where.IndexAs(rest) != 0 {
			continue
		}
		if !strings.Contains(c, ",") || slices.ContainsFunc(strings.Split(c, ","), isNoColumn) {
			name = c
		}
	}
	return name
}

// refuseAliases returns an error if a name has an alias.
func refuseAliases(names []fieldName) error {
	for _, name := range names {
		if name.alias != "" {
			return fmt.Errorf("%q cannot be renamed here: use as in --columns (if %q is a column's name, quote it)", name.text, name.text+" as "+name.alias)
		}
	}
	return nil
}

// ResolveFields returns the fields named in a comma-separated list. The list must not rename fields, as "x as y" does.
func ResolveFields(list string, layout records.Layout, columns []string) ([]records.Field, error) {
	fields, names, err := resolveNamed(list, layout, columns)
	if err == nil {
		err = refuseAliases(names)
	}
	return fields, err
}

// resolveNamed is like ResolveFields, but also returns the names, which may have aliases.
func resolveNamed(list string, layout records.Layout, columns []string) (fields []records.Field, names []fieldName, err error) {
	names, err = splitNames(list, columns)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		f, err := name.resolve(layout, columns)
		if err != nil {
			return nil, nil, err
		}
		fields = append(fields, f)
	}
	return fields, names, nil
}

// AppendCSVKey appends the key of several fields: a CSV record without a line ending. Keys have fewer quotes than files,
// because programs compare keys and do not parse them.
func AppendCSVKey(dst []byte, fields [][]byte) []byte {
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = textfmt.AppendInner(dst, f, ',')
	}
	return dst
}

// ResolveFields returns the fields in list, which is the value of a flag.
func (in *Inputs) ResolveFields(flag, list string, layout records.Layout) ([]records.Field, error) {
	fields, err := ResolveFields(list, layout, in.Columns)
	if err != nil {
		return nil, in.FieldError(flag, list, layout, err)
	}
	return fields, nil
}

func (in *Inputs) FieldError(flag, value string, layout records.Layout, err error) error {
	// If the column names are known, the file may be wrong instead of the flag.
	isUsageError := in.Columns == nil || errors.Is(err, records.ErrFieldZero)
	err = fmt.Errorf("--%s %q in %s (read as %s): %w%s", flag, value, in.Files[0].Name, layout.Format, err, in.SeparatorHint(layout))
	if isUsageError {
		return &OptionError{err}
	}
	return err
}

// ResolveFields is like Inputs.ResolveFields, but a record may lack any of the fields.
func (j *Job) ResolveFields(flag, list string) ([]records.Field, error) {
	fields, err := j.Inputs.ResolveFields(flag, list, j.From)
	for i := range fields {
		fields[i].Optional = true
	}
	return fields, err
}

// ResolveColumns is like ResolveFields, but also returns the names of the fields in the output.
func (j *Job) ResolveColumns(flag, list string) (fields []records.Field, names []string, err error) {
	fields, elements, err := resolveNamed(list, j.From, j.Inputs.Columns)
	if err != nil {
		return nil, nil, j.Inputs.FieldError(flag, list, j.From, err)
	}
	for i := range fields {
		fields[i].Optional = true
		names = append(names, cmp.Or(elements[i].alias, nameOf(fields[i], j.From, j.Inputs.Columns)))
	}
	return fields, names, nil
}

func nameOf(f records.Field, layout records.Layout, columns []string) string {
	switch {
	case f.Part != nil:
		return f.Part.Text
	case layout.Format == records.JSONL:
		return f.Name
	case f.Index < 0:
		return fmt.Sprint(f.Index)
	case f.Index < len(columns):
		return columns[f.Index]
	}
	return fmt.Sprint(f.Index + 1)
}

// In a key, each field ends with a NUL and one of these bytes. If the types of values do not
// matter, the byte is always EndText.
const (
	endMissing = iota + 1
	EndText
	endBare // a JSON number or boolean
)

// AppendKey encodes fields as a key that sorts by the first field, then the second, and so on. A
// NUL inside a field is escaped by a 255 after it. bare[i] is true if field i is a JSON number or
// boolean; bare is nil if types do not matter.
func AppendKey(dst []byte, fields [][]byte, bare []bool) []byte {
	for i, f := range fields {
		end := byte(EndText)
		switch {
		case bare == nil:
		case f == nil:
			end = endMissing
		case bare[i]:
			end = endBare
		}
		for {
			nul := bytes.IndexByte(f, 0)
			if nul < 0 {
				break
			}
			dst = append(append(dst, f[:nul+1]...), 255)
			f = f[nul+1:]
		}
		dst = append(append(dst, f...), 0, end)
	}
	return dst
}

// ShortKey returns the key that AppendKey appends for a text of up to 6 bytes. The text is in the n lowest bytes of word,
// and the key is in the lowest bytes of the result. ShortKey returns false if the text contains a NUL.
func ShortKey(word uint64, n int) (uint64, bool) {
	const eachByte = 0x0101010101010101
	unused := ^uint64(0) << (8 * n)
	filled := word | unused // so that only a NUL in the text is a zero byte
	return word&^unused | EndText<<8<<(8*n), (filled-eachByte)&^filled&(0x80*eachByte) == 0
}

// splitKey appends the fields of a key made by AppendKey. A field shares the
// key's memory unless it contains a NUL.
func splitKey(fields []output.Value, key []byte) []output.Value {
	for len(key) > 0 {
		nul := bytes.IndexByte(key, 0)
		f, end := key[:nul], key[nul+1]
		key = key[nul+2:]
		for end == 255 {
			nul = bytes.IndexByte(key, 0)
			f = append(append(f[:len(f):len(f)], 0), key[:nul]...)
			end, key = key[nul+1], key[nul+2:]
		}
		fields = append(fields, output.Value{Text: f, Missing: end == endMissing, JSON: end == endBare})
	}
	return fields
}

// AppendPlainKey appends the fields of a key, with separators between them. If oneField is
// set, the key is a single unencoded field. It returns false if a field needs quotes.
func AppendPlainKey(dst, key []byte, oneField bool, plain *output.Plain) ([]byte, bool) {
	if oneField {
		return append(dst, key...), plain.Holds(key)
	}
	from := len(dst)
	dst = append(dst, key[:len(key)-2]...) // without the NUL and end byte of the last field
	special := &plain.First                // the bytes that require quotes; plain.Special after a field's first byte
	for to, i := from, 0; i < len(key); i++ {
		c := key[i]
		if special[c] {
			return dst, false
		}
		special = &plain.Special
		if c == 0 {
			i++
			if key[i] == 255 {
				return dst, false
			}
			if i+1 == len(key) {
				return dst[:to], true
			}
			c, special = plain.Sep, &plain.First
		}
		dst[to] = c
		to++
	}
	return dst, false
}
