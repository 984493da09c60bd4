package rules

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
	"github.com/go-partd/partd/tables/internal/take"
)

// Check applies rules to the rows of one put. A nil one has none.
type Check struct {
	logical *arrow.Schema
	rows    int64 // so far
	found   []*Violation
	rules   []*ruleCheck
}

// ruleCheck applies a rule.
type ruleCheck struct {
	*Violation
	columns []int
	violate *filter.Condition // true for rows that do; nil: another kind
	pattern *regexp.Regexp
	sorted  bool
	last    arrow.Array // the row before, of a rule about order
	keys    *uniqueKeys
}

// Table reads rows of the table that rows are put into, as they are stored: some
// columns at least, where a condition holds; nil is all.
type Table func(ctx context.Context, columns []string, where *filter.Expr, each func(arrow.RecordBatch) error) error

// Options of a Check.
type Options struct {
	Table  Table // nil: rules are about the put alone
	Memory int64 // for the keys of a rule of uniqueness; beyond, they go to temporary files
}

// NewCheck returns the check of rows in the schema that is put, which a table stores
// and readers get in others; nil without rules.
func NewCheck(ctx context.Context, rules []Rule, put, stored, logical *arrow.Schema, o Options) (_ *Check, err error) {
	rules = slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return r.Disabled })
	if len(rules) == 0 {
		return nil, nil
	}
	c := &Check{logical: logical}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	plain := schema.Plain(put)
	for _, r := range rules {
		rc := &ruleCheck{Violation: &Violation{Rule: r.Name}}
		c.found = append(c.found, rc.Violation)
		for _, name := range r.Names() {
			rc.columns = append(rc.columns, logical.FieldIndices(name)...)
		}
		switch {
		case (r.Kind == "exists" || r.Kind == "not_null") && !plain.HasField(r.Column):
			rc.Why = fmt.Sprintf("the rows have no column %q, only %q", r.Column, schema.Names(put))
			continue
		case len(rc.columns) < len(r.Names()) || r.Kind == "exists":
			continue
		case r.Kind == "type":
			want := r.Type
			if t, err := schema.Parse(want); err == nil {
				want = t.String()
			}
			if at := plain.FieldIndices(r.Column); len(at) > 0 && plain.Field(at[0]).Type.String() != want {
				rc.Why = fmt.Sprintf("column %q has type %s, and the rule asks for %s", r.Column, plain.Field(at[0]).Type, r.Type)
			}
			continue
		case r.Kind == "sorted":
			rc.sorted = true
		case r.Kind == "regexp":
			if rc.pattern, err = regexp.Compile(r.Pattern); err != nil {
				return nil, fmt.Errorf("rule %q: %w", r.Name, err)
			}
		case r.Kind == "unique":
			rc.keys, err = newUniqueKeys(ctx, o, r, stored)
		default:
			rc.violate, err = r.filter(logical)
		}
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", r.Name, err)
		}
		c.rules = append(c.rules, rc)
	}
	return c, nil
}

// filter is the condition of rows that violate a rule; of no use for kinds that are
// checked otherwise, and where a column is missing.
func (r Rule) filter(s *arrow.Schema) (*filter.Condition, error) {
	for _, name := range r.Names() {
		if !s.HasField(name) {
			return new(filter.Condition), nil
		}
	}
	var holds []*filter.Expr
	switch r.Kind {
	case "not_null":
		holds = append(holds, filter.Not(filter.IsNull(r.Column)))
	case "expression":
		e, err := filter.Parse(r.Where)
		if err != nil {
			return nil, err
		}
		holds = append(holds, e)
	case "range":
		column := s.Field(s.FieldIndices(r.Column)[0])
		for _, bound := range [][2]string{{">=", r.Min}, {"<=", r.Max}} {
			if bound[1] == "" {
				continue
			}
			e, err := filter.Compare(column, bound[0], bound[1])
			if err != nil {
				return nil, err
			}
			holds = append(holds, e)
		}
	default:
		return new(filter.Condition), nil
	}
	return filter.Not(filter.And(holds...)).Bind(s)
}

// Violated reports whether a rule was, so far.
func (c *Check) Violated() bool {
	return c != nil && slices.ContainsFunc(c.found, func(v *Violation) bool { return v.Count > 0 || v.Why != "" })
}

// WholeTable reports whether a rule is about all rows of the table.
func (c *Check) WholeTable() bool {
	return c != nil && slices.ContainsFunc(c.rules, func(r *ruleCheck) bool { return r.keys != nil && r.keys.inTable })
}

// Add looks at rows, in the types that are stored.
func (c *Check) Add(stored arrow.RecordBatch) error {
	if c == nil {
		return nil
	}
	b, err := schema.Convert(stored, c.logical)
	if err != nil {
		return err
	}
	defer b.Release()
	for _, r := range c.rules {
		switch {
		case r.keys != nil:
			err = r.keys.add(stored, c.rows)
		case r.pattern != nil:
			err = r.match(b, c.rows)
		case r.sorted:
			err = r.order(stored, b, c.rows)
		default:
			err = r.find(b, c.rows)
		}
		if err != nil {
			return fmt.Errorf("rule %q: %w", r.Rule, err)
		}
	}
	c.rows += b.NumRows()
	return nil
}

// End returns an Error if a rule was violated. All rows were added.
func (c *Check) End(ctx context.Context) error {
	if c == nil {
		return nil
	}
	for _, r := range c.rules {
		if r.keys != nil {
			if err := r.keys.end(ctx, r); err != nil {
				return fmt.Errorf("rule %q: %w", r.Rule, err)
			}
		}
	}
	if !c.Violated() {
		return nil
	}
	var e Error
	for _, v := range c.found {
		if v.Count > 0 || v.Why != "" {
			e.Violations = append(e.Violations, *v)
		}
	}
	return &e
}

// WithoutOrder leaves out what is known once all rows came in the order of a put.
func (c *Check) WithoutOrder() {
	if c != nil {
		c.Close()
		c.rules = slices.DeleteFunc(c.rules, func(r *ruleCheck) bool { return r.keys != nil || r.sorted })
	}
}

// Close lets go of what the check holds. It may be called again.
func (c *Check) Close() {
	if c == nil {
		return
	}
	for _, r := range c.rules {
		if r.keys != nil {
			r.keys.close()
		}
	}
}

// maxBadRows is how many rows an error names for each rule, and maxBadValue how long
// their values are, in bytes.
const (
	maxBadRows  = 10
	maxBadValue = 100
)

// bad counts a row of a batch that violates the rule.
func (r *ruleCheck) bad(b arrow.RecordBatch, at int, row int64) {
	r.Count++
	if len(r.Rows) < maxBadRows {
		var values []string
		for _, i := range r.columns {
			text := "null"
			if b.Column(i).IsValid(at) {
				text = b.Column(i).ValueStr(at)
			}
			values = append(values, b.ColumnName(i)+"="+shortened(text))
		}
		r.Rows = append(r.Rows, BadRow{row + 1, strings.Join(values, ", ")})
	}
}

func shortened(text string) string {
	if len(text) > maxBadValue {
		text = strings.ToValidUTF8(text[:maxBadValue], "") + "…"
	}
	return text
}

// find finds the rows that violate a condition.
func (r *ruleCheck) find(b arrow.RecordBatch, first int64) error {
	found, err := r.violate.Holds(int(b.NumRows()), func(name string) arrow.Array { return b.Column(b.Schema().FieldIndices(name)[0]) })
	for _, i := range take.Indices(found) {
		r.bad(b, i, first+int64(i))
	}
	return err
}

// match finds the rows whose text does not match.
func (r *ruleCheck) match(b arrow.RecordBatch, first int64) error {
	texts, ok := b.Column(r.columns[0]).(array.StringLike)
	if !ok {
		return fmt.Errorf("column %q has type %s, which is no text", b.ColumnName(r.columns[0]), b.Column(r.columns[0]).DataType())
	}
	for i := range texts.Len() {
		if texts.IsValid(i) && !r.pattern.MatchString(texts.Value(i)) {
			r.bad(b, i, first+int64(i))
		}
	}
	return nil
}

// order finds the rows that are less than the one before, or null.
func (r *ruleCheck) order(stored, b arrow.RecordBatch, first int64) error {
	column := stored.Column(r.columns[0])
	if !sorted.KeysInOrder(column.DataType()) {
		return errors.ErrUnsupported
	}
	less := func(i int, before arrow.Array, j int) bool {
		return string(sorted.AppendKey(nil, column, i)) < string(sorted.AppendKey(nil, before, j))
	}
	for i := range column.Len() {
		switch {
		case column.IsNull(i), i > 0 && column.IsValid(i-1) && less(i, column, i-1),
			i == 0 && r.last != nil && r.last.IsValid(0) && less(0, r.last, 0):
			r.bad(b, i, first+int64(i))
		}
	}
	if n := int64(column.Len()); n > 0 {
		one, err := array.Concatenate([]arrow.Array{array.NewSlice(column, n-1, n)}, memory.DefaultAllocator) // which does not hold the rest
		if err != nil {
			return err
		}
		r.last = one
	}
	return nil
}
