package difftest

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
)

// withForbiddenNull returns a copy of a value with a null where its type does not allow it, and the path to
// the null. ok is false if the value has no place for such a null.
func withForbiddenNull(r *rand.Rand, v any, t arrow.DataType) (bad any, path string, ok bool) {
	parts, isList := v.([]any)
	nested, isNested := plainType(t).(arrow.NestedType)
	if !isList || !isNested || len(parts) == 0 {
		return nil, "", false
	}
	index, isMap := r.IntN(len(parts)), false
	f, name := nested.Fields()[0], ".element"
	switch nested := nested.(type) {
	case *arrow.StructType:
		f = nested.Field(index)
		name = "." + f.Name
	case *arrow.MapType:
		index |= 1
		f, name, isMap = nested.ItemField(), ".value", true // a map's builder panics
	}
	if parts = slices.Clone(parts); !f.Nullable && !isMap && r.IntN(2) == 0 {
		parts[index] = nil
		return parts, name, true
	}
	child, path, ok := withForbiddenNull(r, parts[index], f.Type)
	if !ok {
		if f.Nullable || isMap {
			return nil, "", false
		}
		child, path = nil, ""
	}
	parts[index] = child
	return parts, name + path, true
}

// putNull puts rows with a null that a column's type forbids. The store must refuse them, and name the field.
func (d *run) putNull(r *rand.Rand) (string, error) {
	rows := d.newRows(r, 1+r.IntN(9), d.cols, d.identityColumns())
	for range 20 {
		c := pickColumn(r, d.cols, func(c *column) bool { return arrow.IsNested(plainType(c.typ).ID()) })
		if c == nil || len(rows) == 0 {
			break
		}
		index := r.IntN(len(rows))
		v, path, ok := withForbiddenNull(r, rows[index][c.name], c.typ)
		if !ok {
			continue
		}
		rows[index][c.name] = v
		_, err := d.bucket.Table("t").Put(d.ctx, d.reader(r, rows, d.cols), tables.PutAppend, nil)
		description := fmt.Sprintf("%d rows of%s, with a null at %s%s", len(rows), describeColumns(d.cols), c.name, path)
		var schemaErr *tables.SchemaError
		switch {
		case err == nil:
			return description, errors.New("the put succeeded, although a value has a forbidden null")
		case !errors.As(err, &schemaErr) || schemaErr.Column != c.name || !strings.Contains(err.Error(), fmt.Sprintf("%q", c.name+path)):
			return description, fmt.Errorf("the error does not name the field: %w", err)
		}
		return description, nil
	}
	return "", nil
}

// narrowFloat maps the floats of some puts, except NaN, to a narrow range, so that a condition's values can
// lie outside the bounds that the files record.
func (d *run) narrowFloat(c *column, v any) any {
	if f, isFloat := v.(float64); isFloat && !math.IsNaN(f) && hash(d.seed, d.stepNumber, c.name)%2 == 0 {
		return math.Mod(math.Abs(math.Max(-9, math.Min(f, 9))), 2)
	}
	return v
}

// checkPartition checks for which rows a condition is true, for which false and for which null.
// Together, these must be all rows of the table. It checks the library's filter, equivalent SQL, and
// plain SQL, where NaN equals itself and is larger than all numbers.
func (d *run) checkPartition(r *rand.Rand) (description string, err error) {
	c := randomCond(r, d.cols, d.rows, 1)
	for range 5 {
		if c.sql() != "" && c.hasFloats() {
			break
		}
		c = randomCond(r, d.cols, d.rows, 1)
	}
	if c.sql() == "" {
		return "", nil
	}
	opposite := &cond{op: "not", parts: []*cond{c}}
	for _, condition := range []*cond{c, opposite} {
		if description, err = d.checkFilter(condition); err != nil {
			return description, err
		}
	}
	if description, err = d.checkSQL(c.sql(), c.eval); err != nil {
		return description, err
	}
	c.addNaN(r)
	return d.checkSQL(c.plainSQL(), c.evalSQL)
}

func (d *run) checkFilter(c *cond) (string, error) {
	description := "get --where " + c.String()
	where, err := filter.Parse(c.String())
	if err != nil {
		return description, err
	}
	reader, err := d.bucket.Table("t").Scan(d.ctx, &tables.ScanOptions{Filter: where, Columns: []string{"id"}})
	return description, d.compareIDs(reader, err, c.eval, yes)
}

// checkSQL checks for which ids an SQL condition is true, false and null; eval returns the expected value for a row.
func (d *run) checkSQL(condition string, eval func(row) truth) (query string, err error) {
	for outcome, where := range map[truth]string{yes: condition, no: "NOT (" + condition + ")", unknown: "(" + condition + ") IS NULL"} {
		query = "SELECT id FROM t WHERE " + where
		reader, err := d.store.Query(d.ctx, query, &tables.QueryOptions{Bucket: "b", Nanoseconds: true})
		if errors.Is(err, errors.ErrUnsupported) {
			return query, nil
		}
		if err := d.compareIDs(reader, err, eval, outcome); err != nil {
			return query, err
		}
	}
	return query, nil
}

func (d *run) compareIDs(reader array.RecordReader, err error, eval func(row) truth, outcome truth) error {
	got, err := readAll(reader, err, []string{"id"})
	if err != nil {
		return err
	}
	want := slices.DeleteFunc(slices.Clone(d.rows), func(r row) bool { return eval(r) != outcome })
	return d.compareRows(got, rowTexts(want, []string{"id"}), false)
}

// hasFloats reports whether the condition compares floats with values.
func (c *cond) hasFloats() bool {
	return slices.ContainsFunc(c.parts, (*cond).hasFloats) || c.parts == nil && len(c.values) > 0 && isFloat(c.col.typ)
}

// addNaN replaces some values in comparisons with floats by NaN, which a filter does not allow.
func (c *cond) addNaN(r *rand.Rand) {
	for _, child := range c.parts {
		child.addNaN(r)
	}
	for i := range c.values {
		if isFloat(c.col.typ) && r.IntN(3) == 0 {
			c.values[i] = literal{value: math.NaN(), sql: "CAST('NaN' AS DOUBLE)"}
		}
	}
}

func (c *cond) plainSQL() string {
	if c.parts != nil {
		texts := make([]string, len(c.parts))
		for i, child := range c.parts {
			texts[i] = "(" + child.plainSQL() + ")"
		}
		if c.op == "not" {
			return "NOT " + texts[0]
		}
		return strings.Join(texts, " "+c.op+" ")
	}
	if !isFloat(c.col.typ) || len(c.values) == 0 {
		return c.sql()
	}
	texts := make([]string, len(c.values))
	for i, l := range c.values {
		texts[i] = l.sql
	}
	if c.isReversed {
		return texts[0] + " " + c.op + " " + quoteName(c.col.name)
	}
	return quoteName(c.col.name) + " " + c.op + " (" + strings.Join(texts, ", ") + ")"
}

// evalSQL returns the condition's value for a row, with SQL's order of floats.
func (c *cond) evalSQL(r row) truth {
	if c.parts != nil {
		all := make([]truth, len(c.parts))
		for i, child := range c.parts {
			all[i] = child.evalSQL(r)
		}
		switch c.op {
		case "not":
			return yes - all[0]
		case "and":
			return slices.Min(all)
		}
		return slices.Max(all)
	}
	v, isNumber := r[c.col.name].(float64)
	if len(c.values) == 0 || !isNumber {
		return c.eval(r)
	}
	isEqual := func(l literal) bool { return compareFloats(v, l.value.(float64)) == 0 }
	if strings.HasSuffix(c.op, "in") {
		return truthOf(slices.ContainsFunc(c.values, isEqual) == (c.op == "in"))
	}
	order := compareFloats(v, c.values[0].value.(float64))
	if c.isReversed {
		order = -order
	}
	return truthOf(isTrue(ratOf(int64(order)), c.op, ratOf(0)))
}

func compareFloats(a, b float64) int {
	switch {
	case math.IsNaN(a) && math.IsNaN(b), a == b:
		return 0
	case math.IsNaN(a):
		return 1
	case math.IsNaN(b):
		return -1
	}
	return cmp.Compare(a, b)
}
