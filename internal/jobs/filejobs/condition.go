package filejobs

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"unsafe"

	"github.com/go-partd/partd/internal/base/where"
	"github.com/go-partd/partd/internal/jobs/aggregate"
)

// condition is a node of a condition on the fields of a record. Fields are text, unless they are
// compared with numbers, dates, true or false.
type condition struct {
	op      where.Operator
	parts   []*condition
	field   int
	name    string // the field's column
	other   int    // field to compare with instead of a value, or -1
	kind    valueKind
	text    []byte
	number  aggregate.Number
	time    where.Time
	pattern *where.Pattern
	in      map[string]bool // for In on text; on other kinds, In is an Or of comparisons
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

// truth is the result of a condition, which is unknown if a field is missing.
type truth uint8

const (
	no truth = iota
	unknown
	yes
)

// newCondition compiles a condition. fieldOf returns the index of a column.
func newCondition(n *where.Node, fieldOf func(n *where.Node, column string) (int, error)) (c *condition, err error) {
	c = &condition{op: n.Op, name: n.Column, other: -1}
	for _, part := range n.Parts {
		child, err := newCondition(part, fieldOf)
		if err != nil {
			return nil, err
		}
		c.parts = append(c.parts, child)
	}
	if len(n.Parts) > 0 {
		return c, nil
	}
	if c.field, err = fieldOf(n, n.Column); err != nil {
		return nil, err
	}
	switch {
	case n.IsColumn:
		c.other, err = fieldOf(n, n.Other)
	case n.Op == where.Like:
		if c.pattern, err = where.ParsePattern(n.Values); err != nil {
			err = fmt.Errorf("filter: position %d: %w", n.Offset+1, err)
		}
	case n.Op != where.Null:
		err = c.setValues(n.Values)
	}
	return c, err
}

// setValues sets the values with which the field is compared.
func (c *condition) setValues(values []where.Literal) error {
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
	if slices.Max(kinds) == isTime && slices.Min(kinds) == isText {
		clear(kinds) // a list of dates and other text is text
	}
	for i, l := range values {
		if kinds[i] != kinds[0] {
			return fmt.Errorf("filter: position %d: column %q is compared with %v and %v", l.Offset+1, c.name, kinds[0], kinds[i])
		}
	}
	c.kind = kinds[0]
	if c.op == where.In && c.kind == isText {
		c.in = map[string]bool{}
		for _, l := range values {
			c.in[l.Text] = true
		}
		return nil
	}
	if c.op == where.In {
		leaf := *c
		leaf.op, c.op = where.Eq, where.Or
		for _, l := range values {
			part := leaf
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
	ok := true
	if c.kind == isNumber {
		c.number, ok = aggregate.ParseNumber(c.text)
	}
	if !ok {
		return fmt.Errorf("filter: position %d: %.40s is beyond the range of a 64-bit float", l.Offset+1, l)
	}
	return nil
}

// holds reports whether the condition is true for a record's fields. It returns an error if a field
// is neither missing nor of the kind with which it is compared.
func (c *condition) holds(fields [][]byte) (bool, error) {
	t, err := c.test(fields)
	return t == yes, err
}

func (c *condition) test(fields [][]byte) (truth, error) {
	switch c.op {
	case where.Not:
		t, err := c.parts[0].test(fields)
		return yes - t, err
	case where.And, where.Or:
		result, end := yes, no // end is the result that other parts cannot change
		if c.op == where.Or {
			result, end = no, yes
		}
		for _, part := range c.parts {
			t, err := part.test(fields)
			if t == end || err != nil {
				return t, err
			}
			if t == unknown {
				result = unknown
			}
		}
		return result, nil
	}
	value := fields[c.field]
	switch {
	case c.op == where.Null:
		return truthOf(len(value) == 0), nil
	case len(value) == 0 || c.other >= 0 && len(fields[c.other]) == 0:
		return unknown, nil
	case c.op == where.Like:
		return truthOf(c.pattern.Matches(unsafe.String(unsafe.SliceData(value), len(value)))), nil
	case c.op == where.In:
		return truthOf(c.in[string(value)]), nil
	}
	order, ok := c.compare(value, fields)
	if !ok {
		return no, fmt.Errorf("--where compares %q with %v, but the field is %s", c.name, c.kind, QuoteShort(value))
	}
	switch c.op {
	case where.Eq:
		return truthOf(order == 0), nil
	case where.Ne:
		return truthOf(order != 0), nil
	case where.Lt:
		return truthOf(order < 0), nil
	case where.Le:
		return truthOf(order <= 0), nil
	case where.Gt:
		return truthOf(order > 0), nil
	}
	return truthOf(order >= 0), nil
}

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// compare compares a value with the condition's. It returns false if the value is not of the
// required kind. Two fields are compared as numbers if both are numbers, and otherwise as text.
func (c *condition) compare(value []byte, fields [][]byte) (order int, ok bool) {
	if c.other >= 0 {
		other := fields[c.other]
		x, okX := aggregate.ParseNumber(value)
		y, okY := aggregate.ParseNumber(other)
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
