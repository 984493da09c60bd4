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
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// Check applies rules to the rows of one put. A nil Check has no rules.
type Check struct {
	logical    *arrow.Schema // the table's columns with the types that readers see
	rows       int64         // number of rows added so far
	violations []*Violation
	rules      []*ruleCheck
}

type ruleCheck struct {
	*Violation
	columns         []int             // indices of the rule's columns in Check.logical
	violationFilter *filter.Condition // holds for rows that violate the rule; nil if the rule is checked in another way
	pattern         *regexp.Regexp    // for a regexp rule
	isSorted        bool              // for a sorted rule
	last            arrow.Array       // for a sorted rule: the value in the previous row
	keys            *uniqueKeys       // for a unique rule: finds duplicates
}

// Table reads a table's stored rows. It calls visit with the rows that match where, or with all rows if where is nil.
// The batches contain at least the given columns.
type Table func(ctx context.Context, columns []string, where *filter.Expr, visit func(arrow.RecordBatch) error) error

// Options configures a Check.
type Options struct {
	Table  Table // nil if rules apply only to the rows of the put
	Memory int64 // bytes for the keys of a unique rule; if that is not enough, keys go to temporary files
}

// NewCheck returns a Check for a put, or nil if no rule is enabled. The schemas describe the rows as put, stored
// and read.
func NewCheck(ctx context.Context, rules []Rule, putSchema, stored, logical *arrow.Schema, o Options) (_ *Check, err error) {
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
	plainPut := schema.WithoutEncodings(putSchema)
	for _, r := range rules {
		rc := &ruleCheck{Violation: &Violation{Rule: r.Name}}
		c.violations = append(c.violations, rc.Violation)
		for _, name := range r.Names() {
			rc.columns = append(rc.columns, logical.FieldIndices(name)...)
		}
		switch {
		case (r.Kind == "exists" || r.Kind == "not_null") && !plainPut.HasField(r.Column):
			rc.Reason = fmt.Sprintf("the rows have no column %q, only %q", r.Column, schema.Names(putSchema))
			continue
		case len(rc.columns) < len(r.Names()) || r.Kind == "exists":
			continue
		case r.Kind == "type":
			required := r.Type
			if t, err := schema.Parse(required); err == nil {
				required = t.String()
			}
			if indices := plainPut.FieldIndices(r.Column); len(indices) > 0 && plainPut.Field(indices[0]).Type.String() != required {
				rc.Reason = fmt.Sprintf("column %q has type %s, but the rule requires %s", r.Column, plainPut.Field(indices[0]).Type, r.Type)
			}
			continue
		case r.Kind == "sorted":
			rc.isSorted = true
		case r.Kind == "regexp":
			rc.pattern, err = regexp.Compile(r.Pattern)
			if err != nil {
				return nil, fmt.Errorf("rule %q: %w", r.Name, err)
			}
		case r.Kind == "unique":
			rc.keys, err = newUniqueKeys(ctx, o, r, stored)
		default:
			rc.violationFilter, err = r.filter(logical)
		}
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", r.Name, err)
		}
		c.rules = append(c.rules, rc)
	}
	return c, nil
}

// filter returns a condition for rows that violate the rule. The condition is empty if the rule is checked in another
// way or if a column is missing.
func (r Rule) filter(s *arrow.Schema) (*filter.Condition, error) {
	for _, name := range r.Names() {
		if !s.HasField(name) {
			return new(filter.Condition), nil
		}
	}
	var conditions []*filter.Expr
	switch r.Kind {
	case "not_null":
		conditions = append(conditions, filter.Not(filter.IsNull(r.Column)))
	case "expression":
		e, err := filter.Parse(r.Where)
		if err != nil {
			return nil, err
		}
		conditions = append(conditions, e)
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
			conditions = append(conditions, e)
		}
	default:
		return new(filter.Condition), nil
	}
	return filter.Not(filter.And(conditions...)).Bind(s)
}

// Violated reports whether any rule has been violated so far.
func (c *Check) Violated() bool {
	return c != nil && slices.ContainsFunc(c.violations, func(v *Violation) bool { return v.Count > 0 || v.Reason != "" })
}

// WholeTable reports whether any rule compares the put's rows with the table's rows.
func (c *Check) WholeTable() bool {
	return c != nil && slices.ContainsFunc(c.rules, func(r *ruleCheck) bool { return r.keys != nil && r.keys.inTable })
}

// Add checks rows, which must have the stored types.
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
			err = r.checkPattern(b, c.rows)
		case r.isSorted:
			err = r.checkOrder(stored, b, c.rows)
		default:
			err = r.checkCondition(b, c.rows)
		}
		if err != nil {
			return fmt.Errorf("rule %q: %w", r.Rule, err)
		}
	}
	c.rows += b.NumRows()
	return nil
}

// Finish returns an Error if any rule is violated. Call it after the last Add.
func (c *Check) Finish(ctx context.Context) error {
	if c == nil {
		return nil
	}
	for _, r := range c.rules {
		if r.keys != nil {
			if err := r.keys.finish(ctx, r); err != nil {
				return fmt.Errorf("rule %q: %w", r.Rule, err)
			}
		}
	}
	if !c.Violated() {
		return nil
	}
	var e Error
	for _, v := range c.violations {
		if v.Count > 0 || v.Reason != "" {
			e.Violations = append(e.Violations, *v)
		}
	}
	return &e
}

// WithoutOrder drops the checks that depend on the order of the rows (sorted) or need all rows (unique).
func (c *Check) WithoutOrder() {
	if c != nil {
		c.Close()
		c.rules = slices.DeleteFunc(c.rules, func(r *ruleCheck) bool { return r.keys != nil || r.isSorted })
	}
}

// Close releases the check's resources. It can be called more than once.
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

// maxBadRows limits the rows that an error lists for each rule. maxBadValue limits each value, in bytes.
const (
	maxBadRows  = 10
	maxBadValue = 100
)

// countRow counts row i of b, which violates the rule. row is its index in the put.
func (r *ruleCheck) countRow(b arrow.RecordBatch, i int, row int64) {
	r.Count++
	if len(r.Rows) < maxBadRows {
		var values []string
		for _, columnIndex := range r.columns {
			text := "null"
			if b.Column(columnIndex).IsValid(i) {
				text = b.Column(columnIndex).ValueStr(i)
			}
			values = append(values, b.ColumnName(columnIndex)+"="+shorten(text))
		}
		r.Rows = append(r.Rows, BadRow{row + 1, strings.Join(values, ", ")})
	}
}

func shorten(text string) string {
	if len(text) > maxBadValue {
		text = strings.ToValidUTF8(text[:maxBadValue], "") + "…"
	}
	return text
}

func (r *ruleCheck) checkCondition(b arrow.RecordBatch, firstRow int64) error {
	violating, err := r.violationFilter.Holds(int(b.NumRows()), func(name string) arrow.Array { return b.Column(b.Schema().FieldIndices(name)[0]) })
	for _, i := range take.Indices(violating) {
		r.countRow(b, i, firstRow+int64(i))
	}
	return err
}

func (r *ruleCheck) checkPattern(b arrow.RecordBatch, firstRow int64) error {
	texts, ok := b.Column(r.columns[0]).(array.StringLike)
	if !ok {
		return fmt.Errorf("column %q has type %s, which is not a string type", b.ColumnName(r.columns[0]), b.Column(r.columns[0]).DataType())
	}
	for i := range texts.Len() {
		if texts.IsValid(i) && !r.pattern.MatchString(texts.Value(i)) {
			r.countRow(b, i, firstRow+int64(i))
		}
	}
	return nil
}

// checkOrder counts the rows whose value is null or less than the previous value.
func (r *ruleCheck) checkOrder(stored, b arrow.RecordBatch, firstRow int64) error {
	column := stored.Column(r.columns[0])
	if !sorted.KeysInOrder(column.DataType()) {
		return errors.ErrUnsupported
	}
	appendKey := sorted.OrderKeyAppender(column)
	less := func(i int, previous func(dst []byte, row int) []byte, j int) bool {
		return string(appendKey(nil, i)) < string(previous(nil, j))
	}
	for i := range column.Len() {
		switch {
		case column.IsNull(i), i > 0 && column.IsValid(i-1) && less(i, appendKey, i-1),
			i == 0 && r.last != nil && r.last.IsValid(0) && less(0, sorted.OrderKeyAppender(r.last), 0):
			r.countRow(b, i, firstRow+int64(i))
		}
	}
	if n := int64(column.Len()); n > 0 {
		// Copy the value, so that the batch can be released.
		lastValue, err := array.Concatenate([]arrow.Array{array.NewSlice(column, n-1, n)}, memory.DefaultAllocator)
		if err != nil {
			return err
		}
		r.last = lastValue
	}
	return nil
}
