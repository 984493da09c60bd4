package filejobs

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"unsafe"

	"github.com/go-partd/partd/internal/base/where"
	"github.com/go-partd/partd/internal/jobs/aggregate"
	"github.com/go-partd/partd/internal/jobs/records"
)

// condition is a node of a --where condition. A record's fields are text unless they are
// compared with numbers, dates, true or false.
type condition struct {
	op        where.Operator
	parts     []*condition
	field     int
	name      string // the field's column name, or the text of its part
	other     int    // field to compare with instead of a value, or -1
	part      *where.Part
	otherPart *where.Part     // the part of the field other
	values    *records.Values // how numbers are written; set only if two fields without parts are compared
	kind      valueKind
	text      []byte
	number    aggregate.Number
	time      where.Time
	pattern   *where.Pattern
	in        map[string]bool // values of In if they are text; for other kinds, In becomes an Or of comparisons
}

type valueKind uint8

const (
	isText valueKind = iota
	isNumber
	isTime
	isBool
)

func (k valueKind) String() string {
	return [...]string{"text", "a number", "a date or time such as 2026-01-31 23:59:59", "true or false"}[k]
}

// truth is the result of a condition.
type truth = byte

const (
	no      truth = iota
	unknown       // a field is missing
	yes
	invalid // a field's value has the wrong kind
)

// newCondition compiles a condition. values says how the fields are written, and fieldOf returns the index of a column.
func newCondition(n *where.Node, values *records.Values, fieldOf func(n *where.Node, column string) (int, error)) (c *condition, err error) {
	c = &condition{op: n.Op, name: n.Column, other: -1, part: n.Part, otherPart: n.OtherPart}
	if n.Part != nil {
		c.name = n.Part.Text
	}
	for _, part := range n.Parts {
		child, err := newCondition(part, values, fieldOf)
		if err != nil {
			return nil, err
		}
		c.parts = append(c.parts, child)
	}
	if len(n.Parts) > 0 {
		return c, nil
	}
	c.field, err = fieldOf(n, n.Column)
	if err != nil {
		return nil, err
	}
	switch {
	case n.IsColumn:
		if n.Part == nil && n.OtherPart == nil {
			c.values = values
		}
		c.other, err = fieldOf(n, n.Other)
	case n.Op == where.Like:
		c.pattern, err = where.ParsePattern(n.Values)
		if err != nil {
			err = fmt.Errorf("filter: position %d: %w", n.Offset+1, err)
		}
	case n.Op != where.Null:
		c.kind, err = commonKind(c.name, slices.Concat(n.Values, n.Bounds))
		if err == nil {
			err = c.setValues(n.Values)
		}
	}
	return c, err
}

// commonKind returns the kind of the values that a field is compared with. All must have the same kind.
func commonKind(name string, values []where.Literal) (valueKind, error) {
	kinds := make([]valueKind, len(values))
	for i, l := range values {
		_, isDate := where.TimeOf([]byte(l.Text))
		switch {
		case l.Kind == where.Number:
			kinds[i] = isNumber
		case l.Kind == where.Bool:
			kinds[i] = isBool
		case isDate:
			kinds[i] = isTime
		}
	}
	// The constants are ordered isText, isNumber, isTime, isBool, so this condition means that only
	// text and times occur.
	if slices.Max(kinds) == isTime && slices.Min(kinds) == isText && !slices.Contains(kinds, isNumber) {
		clear(kinds) // a list of dates and other text is text
	}
	for i, l := range values {
		if kinds[i] != kinds[0] {
			return 0, fmt.Errorf("filter: position %d: column %q is compared with %v and %v", l.Offset+1, name, kinds[0], kinds[i])
		}
	}
	return kinds[0], nil
}

// setValues sets the values to compare the field with. They must have the kind c.kind.
func (c *condition) setValues(values []where.Literal) error {
	if c.op == where.In && c.kind == isText {
		c.in = map[string]bool{}
		for _, l := range values {
			c.in[l.Text] = true
		}
		return nil
	}
	if c.op == where.In {
		equals := *c
		equals.op = where.Eq
		c.op = where.Or
		for _, l := range values {
			part := equals
			c.parts = append(c.parts, &part)
			if err := part.setValue(l); err != nil {
				return err
			}
		}
		return nil
	}
	return c.setValue(values[0])
}

func (c *condition) setValue(l where.Literal) error {
	c.text = []byte(l.Text)
	c.time, _ = where.TimeOf(c.text)
	if c.kind != isNumber {
		return nil
	}
	var ok bool
	c.number, ok = aggregate.ParseNumber(c.text)
	if !ok {
		return fmt.Errorf("filter: position %d: %.40s is beyond the range of a 64-bit float", l.Offset+1, l)
	}
	return nil
}

// holds reports whether the condition is true for a record's fields. It returns an error if a present field has
// the wrong kind.
func (c *condition) holds(fields [][]byte) (bool, error) {
	result, bad := c.eval(fields)
	if result == invalid {
		value, err := cutPart(bad.part, fields[bad.field])
		if err == nil && bad.other >= 0 {
			_, err = cutPart(bad.otherPart, fields[bad.other])
		}
		if err != nil {
			return false, err
		}
		hint := ""
		if bad.kind == isNumber {
			hint = aggregate.CommaHint(value)
		}
		return false, fmt.Errorf("--where compares %q with %v, but the field is %s%s", bad.name, bad.kind, QuoteShort(value), hint)
	}
	return result == yes, nil
}

// eval evaluates the condition on a record's fields. If the result is invalid, bad is the comparison whose field has
// the wrong kind.
func (c *condition) eval(fields [][]byte) (t truth, bad *condition) {
	switch c.op {
	case where.Not:
		t, bad = c.parts[0].eval(fields)
		return negate[t], bad
	case where.And, where.Or:
		table := combined[c.op]
		for i, part := range c.parts {
			next, partBad := part.eval(fields)
			if i == 0 {
				t = next
			}
			t = table[t][next]
			if t == invalid && bad == nil {
				bad = partBad
			}
		}
		return t, bad
	}
	var other []byte
	if c.other >= 0 {
		other = fields[c.other]
	}
	return c.testValue(fields[c.field], other), c
}

// testValue tests a field's value. If c.other is not negative, other is the value to compare it with.
func (c *condition) testValue(value, other []byte) truth {
	value, err := cutPart(c.part, value)
	if err == nil {
		other, err = cutPart(c.otherPart, other)
	}
	switch {
	case err != nil:
		return invalid
	case c.op == where.Null:
		return truthOf(len(value) == 0)
	case len(value) == 0 || c.other >= 0 && len(other) == 0:
		return unknown
	case c.op == where.Like:
		return truthOf(c.pattern.Matches(unsafe.String(unsafe.SliceData(value), len(value))))
	case c.op == where.In:
		return truthOf(c.in[string(value)])
	}
	order, ok := c.compare(value, other)
	if !ok {
		return invalid
	}
	return outcomes[c.op][order+1]
}

// outcomes[op] holds the results of a comparison if the left side is less, equal and greater.
var outcomes = [where.Operators][3]truth{
	where.Eq: {no, yes, no}, where.Ne: {yes, no, yes}, where.Lt: {yes, no, no},
	where.Le: {yes, yes, no}, where.Gt: {no, no, yes}, where.Ge: {no, yes, yes},
}

var negate = [4]truth{yes, unknown, no, invalid}

// combined[op] holds the result of "and" or "or" for the results of both sides. If the left side decides,
// the right side may be invalid.
var combined = [where.Operators]*[4][4]truth{
	where.And: {
		no:      {no, no, no, no},
		unknown: {no, unknown, unknown, invalid},
		yes:     {no, unknown, yes, invalid},
		invalid: {invalid, invalid, invalid, invalid},
	},
	where.Or: {
		no:      {no, unknown, yes, invalid},
		unknown: {unknown, unknown, yes, invalid},
		yes:     {yes, yes, yes, yes},
		invalid: {invalid, invalid, invalid, invalid},
	},
}

// testColumns sets out[i] to the result for record first+i of columns. Column firstField+f holds
// the condition's field f.
func (c *condition) testColumns(columns *records.Columns, firstField, first int, out []truth) {
	if len(c.parts) > 0 {
		c.parts[0].testColumns(columns, firstField, first, out)
		if c.op == where.Not {
			for i, t := range out {
				out[i] = negate[t]
			}
			return
		}
		table := combined[c.op]
		next := make([]truth, len(out))
		for _, part := range c.parts[1:] {
			part.testColumns(columns, firstField, first, next)
			for i, t := range next {
				out[i] = table[out[i]][t]
			}
		}
		return
	}
	data := columns.Data
	from, to := columns.From[firstField+c.field][first:first+len(out)], columns.To[firstField+c.field][first:first+len(out)]
	result := outcomes[c.op]
	switch {
	case c.part == nil && c.kind == isNumber:
		aggregate.CompareColumn(data, from, to, c.number, aggregate.Comparison{Less: result[0], Equal: result[1], Greater: result[2], Missing: unknown, Invalid: invalid}, out)
	case c.part == nil && c.kind == isText && c.other < 0 && (c.op == where.Eq || c.op == where.Ne):
		for i, start := range from {
			switch value := data[start:to[i]]; {
			case len(value) == 0:
				out[i] = unknown
			case string(value) == string(c.text):
				out[i] = result[1]
			default:
				out[i] = result[0]
			}
		}
	default:
		var other []byte
		for i, start := range from {
			if c.other >= 0 {
				other = data[columns.From[firstField+c.other][first+i]:columns.To[firstField+c.other][first+i]]
			}
			out[i] = c.testValue(data[start:to[i]], other)
		}
	}
}

// cutPart returns the part of a value. If part is nil, it returns the value.
func cutPart(part *where.Part, value []byte) ([]byte, error) {
	if part == nil {
		return value, nil
	}
	if part.Changes() {
		return part.Append(nil, value)
	}
	from, to, err := part.Of(value)
	return value[from:to], err
}

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// compare compares a field's value with the condition's value. It returns false if the value is not
// of the required kind. Two fields are compared as numbers if both are numbers, and otherwise as
// text.
func (c *condition) compare(value, other []byte) (order int, ok bool) {
	if c.other >= 0 {
		x, okX := c.parseNumber(value)
		y, okY := c.parseNumber(other)
		if okX && okY {
			return x.Compare(y), true
		}
		return bytes.Compare(value, other), true
	}
	switch c.kind {
	case isNumber:
		x, ok := aggregate.ParseNumber(value)
		return x.Compare(c.number), ok
	case isTime:
		t, ok := where.TimeOf(value)
		return cmp.Or(cmp.Compare(t.Seconds, c.time.Seconds), cmp.Compare(t.Nanos, c.time.Nanos)), ok
	case isBool:
		b, ok := aggregate.ParseBool(value)
		return cmp.Compare(truthOf(b), truthOf(c.text[0] == 't')), ok
	}
	return bytes.Compare(value, c.text), true
}

// parseNumber returns the number in a field that is compared with another field.
func (c *condition) parseNumber(field []byte) (aggregate.Number, bool) {
	if c.values.ReadsNumbers() {
		var buf [64]byte
		field = c.values.AppendNumber(buf[:0], field)
	}
	return aggregate.ParseNumber(field)
}
