package filejobs

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/base/where"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
)

// Selection is the compiled form of --where and --columns: which records to keep, and which of
// their columns.
type Selection struct {
	Header []byte // header with the kept columns

	layout, to  records.Layout  // layouts of the input's records and of the records that replace them
	fields      []records.Field // the condition's fields, then the kept columns
	whereFields int             // number of the condition's fields
	condition   *condition      // nil keeps all records
	names       []string        // names of the kept columns; nil keeps all columns
}

// Select compiles a condition and a list of columns, each of which may be "". columns holds the names
// of the records' columns, or nil if they are unnamed. If list is set, new records with the layout to
// replace the input's records. fail returns the error for a flag's value.
func Select(layout, to records.Layout, columns []string, condition, list string, fail func(flag, value string, err error) error) (*Selection, error) {
	s := &Selection{layout: layout, to: to}
	if layout.HasHeader() && len(columns) == 0 { // JSON lines without records
		return s, nil
	}
	if err := s.setCondition(columns, condition, fail); err != nil {
		return nil, err
	}
	s.whereFields = len(s.fields)
	if list == "" {
		return s, nil
	}
	fields, elements, err := resolveNamed(list, layout, columns)
	if err != nil {
		return nil, fail("columns", list, err)
	}
	for i, f := range fields {
		s.names = append(s.names, cmp.Or(elements[i].alias, nameOf(f, layout, columns)))
		f.Optional, f.Raw = true, layout.Format == records.JSONL && to.Format == records.JSONL && f.Part == nil
		s.fields = append(s.fields, f)
	}
	rows, err := output.NewRows(to, s.names)
	if err == nil {
		s.Header, err = rows.AppendHeader(nil)
	}
	if err != nil {
		return nil, fail("columns", list, err)
	}
	return s, nil
}

func (s *Selection) setCondition(columns []string, text string, fail func(flag, value string, err error) error) error {
	if text == "" {
		return nil
	}
	root, err := where.ParseWithParts(text)
	if err != nil {
		return OptionErrorf("--where: %w", err)
	}
	var fieldErr error
	s.condition, err = newCondition(root, s.layout.Values, func(n *where.Node, column string) (int, error) {
		f, err := s.layout.ResolveColumn(column, columns)
		if err != nil {
			if n.IsColumn && column == n.Other {
				err = fmt.Errorf("%w; put text in single quotes", err)
			}
			fieldErr = fail("where", text, err)
			return 0, fieldErr
		}
		f.Optional, f.Nested, f.Null = true, n.Op == where.Null, true
		isNumber := func(l where.Literal) bool { return l.Kind == where.Number }
		f.Number = s.layout.Values.ReadsNumbers() && n.Part == nil && slices.ContainsFunc(slices.Concat(n.Values, n.Bounds), isNumber)
		if i := slices.Index(s.fields, f); i >= 0 {
			return i, nil
		}
		s.fields = append(s.fields, f)
		return len(s.fields) - 1, nil
	})
	if err != nil && fieldErr == nil {
		return OptionErrorf("--where: %w", err)
	}
	return fieldErr
}

// isAll reports whether the selection keeps all records unchanged.
func (s *Selection) isAll() bool { return s == nil || s.condition == nil && s.names == nil }

// Replaces reports whether the selection replaces records by some of their columns.
func (s *Selection) Replaces() bool { return s != nil && s.names != nil }

// Selector returns a function for [records.Config], or nil if the selection keeps all records unchanged.
// maxRecord is the maximum length of a record.
func (s *Selection) Selector(maxRecord int) func() *records.Selector {
	if s.isAll() {
		return nil
	}
	return func() *records.Selector {
		sel := &records.Selector{Fields: s.fields, MaxRecord: maxRecord / 4}
		if s.condition != nil {
			sel.Keep = s.condition.holds
			var truths []truth
			sel.KeepColumns = func(c *records.Columns, firstSelected, from int, keep []bool) (kept, firstBad int) {
				truths = slices.Grow(truths[:0], len(keep))[:len(keep)]
				s.condition.testColumns(c, firstSelected, from, truths)
				firstBad = bytes.IndexByte(truths, invalid)
				if firstBad < 0 {
					firstBad = len(truths)
				}
				kept = bytes.Count(truths, []byte{yes})
				if kept == len(truths) {
					return kept, firstBad
				}
				for i, t := range truths {
					keep[i] = t == yes
				}
				return kept, firstBad
			}
		}
		if s.names != nil {
			sel.Write = s.newWriter()
		}
		return sel
	}
}

func (s *Selection) newWriter() func(dst []byte, fields [][]byte) ([]byte, error) {
	rows, _ := output.NewRows(s.to, s.names) // Select has checked the names
	row := make([]output.Value, len(s.names))
	return func(dst []byte, fields [][]byte) ([]byte, error) {
		for i, f := range s.fields[s.whereFields:] {
			row[i] = output.Value{Text: fields[s.whereFields+i], Missing: fields[s.whereFields+i] == nil, JSON: f.Raw}
		}
		return rows.Append(dst, row)
	}
}

// OrderColumns returns the indexes in names of the columns to write, and the columns' names in the
// output. Without --columns, order is nil, which means all columns.
func (j *Job) OrderColumns(names []string) (order []int, _ []string, err error) {
	if j.Options.Columns == "" {
		return nil, names, nil
	}
	list, err := splitNames(j.Options.Columns, names)
	if err != nil {
		return nil, nil, OptionErrorf("--columns: %w", err)
	}
	outputNames := make([]string, len(list))
	for k, name := range list {
		name.text += name.suffix
		i := slices.Index(names, name.text)
		if i < 0 {
			return nil, nil, OptionErrorf("--columns: the output has no column %q%s; its columns are %s", name.text, textfmt.Hint(name.text, names), strings.Join(names, ", "))
		}
		order, outputNames[k] = append(order, i), cmp.Or(name.alias, name.text)
	}
	return order, outputNames, nil
}
