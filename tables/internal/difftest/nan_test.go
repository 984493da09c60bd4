package difftest

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
)

// near moves the floats of some puts close to each other, apart from NaN, so that conditions can
// lie outside of their bounds.
func (d *run) near(c *column, v any) any {
	if f, isFloat := v.(float64); isFloat && !math.IsNaN(f) && hash(d.seed, d.at, c.name)%2 == 0 {
		return math.Mod(math.Abs(math.Max(-9, math.Min(f, 9))), 2)
	}
	return v
}

// partitioned compares the rows for which a condition is true, false and null, which together
// are the table. It tests the library's filter, equivalent SQL, and plain SQL, in which NaN
// equals itself and is larger than all numbers.
func (d *run) partitioned(r *rand.Rand) (what string, err error) {
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
	for _, wanted := range []*cond{c, opposite} {
		if what, err = d.filtered(wanted); err != nil {
			return what, err
		}
	}
	if what, err = d.inSQL(c.sql(), c.of); err != nil {
		return what, err
	}
	c.addNaN(r)
	return d.inSQL(c.plainSQL(), c.ofSQL)
}

func (d *run) filtered(c *cond) (string, error) {
	what := "get --where " + c.String()
	where, err := filter.Parse(c.String())
	if err != nil {
		return what, err
	}
	t, err := d.bucket.Table(d.ctx, "t")
	if err != nil {
		return what, err
	}
	reader, err := t.Scan(d.ctx, &tables.ScanOptions{Filter: where, Columns: []string{"id"}})
	return what, d.differIDs(reader, err, c.of, yes)
}

// inSQL compares the ids of the rows for which an SQL condition is true, false and null.
func (d *run) inSQL(condition string, of func(row) truth) (what string, err error) {
	for wanted, where := range map[truth]string{yes: condition, no: "NOT (" + condition + ")", unknown: "(" + condition + ") IS NULL"} {
		what = "SELECT id FROM t WHERE " + where
		reader, err := d.store.Query(d.ctx, what, &tables.QueryOptions{Bucket: "b", Nanoseconds: true})
		if errors.Is(err, errors.ErrUnsupported) {
			return what, nil
		}
		if err := d.differIDs(reader, err, of, wanted); err != nil {
			return what, err
		}
	}
	return what, nil
}

func (d *run) differIDs(reader array.RecordReader, err error, of func(row) truth, wanted truth) error {
	got, err := readAll(reader, err, []string{"id"})
	if err != nil {
		return err
	}
	want := slices.DeleteFunc(slices.Clone(d.rows), func(r row) bool { return of(r) != wanted })
	return d.differ(got, texts(want, []string{"id"}), false)
}

// hasFloats reports whether the condition compares floats with values.
func (c *cond) hasFloats() bool {
	return slices.ContainsFunc(c.parts, (*cond).hasFloats) || c.parts == nil && len(c.values) > 0 && isFloat(c.col.typ)
}

// addNaN makes some values of comparisons with floats NaN, which a filter does not allow.
func (c *cond) addNaN(r *rand.Rand) {
	for _, part := range c.parts {
		part.addNaN(r)
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
		for i, part := range c.parts {
			texts[i] = "(" + part.plainSQL() + ")"
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
	if c.turned {
		return texts[0] + " " + c.op + " " + quoted(c.col.name)
	}
	return quoted(c.col.name) + " " + c.op + " (" + strings.Join(texts, ", ") + ")"
}

// ofSQL returns the condition's value for a row, by SQL's order.
func (c *cond) ofSQL(r row) truth {
	if c.parts != nil {
		all := make([]truth, len(c.parts))
		for i, part := range c.parts {
			all[i] = part.ofSQL(r)
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
		return c.of(r)
	}
	is := func(l literal) bool { return inOrder(v, l.value.(float64)) == 0 }
	if strings.HasSuffix(c.op, "in") {
		return truthOf(slices.ContainsFunc(c.values, is) == (c.op == "in"))
	}
	order := inOrder(v, c.values[0].value.(float64))
	if c.turned {
		order = -order
	}
	return truthOf(holds(whole(int64(order)), c.op, whole(0)))
}

// inOrder compares floats as SQL does.
func inOrder(a, b float64) int {
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
