package difftest

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/float16"
)

// cond is a condition: a comparison, or a combination of conditions by and, or, or not.
type cond struct {
	op         string
	parts      []*cond
	col        *column
	otherCol   *column // the column with which col is compared, or nil
	values     []literal
	isReversed bool // the value comes before the column
}

type literal struct {
	value any
	text  string // as written in a filter
	sql   string // "" if SQL has no equal value of the column's type
}

func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// randomCond returns a random condition on columns, with literals that are near the rows' values.
func randomCond(r *rand.Rand, cols []*column, rows []row, depth int) *cond {
	if depth > 0 && r.IntN(3) == 0 {
		c := &cond{op: pick(r, "and", "or", "not")}
		for range map[bool]int{true: 1, false: 2 + r.IntN(2)}[c.op == "not"] {
			c.parts = append(c.parts, randomCond(r, cols, rows, depth-1))
		}
		return c
	}
	c := &cond{col: pickColumn(r, cols, func(*column) bool { return true })}
	if c.otherCol = pickColumn(r, cols, func(o *column) bool { return o != c.col && areComparable(c.col.typ, o.typ) }); c.otherCol != nil && r.IntN(4) == 0 {
		c.op = pick(r, "=", "!=", "<", "<=", ">", ">=")
		return c
	}
	c.otherCol = nil
	c.op = pick(r, "=", "==", "!=", "<>", "<", "<=", ">", ">=", "in", "not in", "is null", "is not null")
	if plainType(c.col.typ).ID() == arrow.STRING && r.IntN(6) == 0 {
		c.op = pick(r, "like", "not like")
	}
	n := 1
	if strings.HasSuffix(c.op, "in") {
		n = 1 + r.IntN(3)
	}
	for range n {
		if l, ok := randomLiteral(r, c.col, rows); ok {
			if strings.HasSuffix(c.op, "like") { // a prefix pattern, without other wildcards
				begin, _, _ := strings.Cut(strings.ReplaceAll(l.value.(string), "_", "%"), "%")
				l = literal{begin, strings.TrimSuffix(literalText(begin), "'") + "%'", ""}
			}
			c.values = append(c.values, l)
		}
	}
	if len(c.values) == 0 && !strings.HasPrefix(c.op, "is") {
		c.op = pick(r, "is null", "is not null")
	}
	if strings.HasPrefix(c.op, "is") {
		c.values = nil
	}
	c.isReversed = n == 1 && !strings.Contains(c.op, "i") && r.IntN(6) == 0
	return c
}

func isFloat(t arrow.DataType) bool { return arrow.IsFloating(plainType(t).ID()) }

// areComparable reports whether docs/filter.md allows comparing columns of types a and b. It returns false
// for decimals of different types.
func areComparable(a, b arrow.DataType) bool {
	a, b = plainType(a), plainType(b)
	isNumber := func(t arrow.DataType) bool {
		return (arrow.IsInteger(t.ID()) || arrow.IsFloating(t.ID())) && t.ID() != arrow.UINT64
	}
	return isNumber(a) && isNumber(b) || arrow.TypeEqual(a, b) && !arrow.IsNested(a.ID()) && a.ID() != arrow.NULL && a.ID() != arrow.FIXED_SIZE_BINARY
}

func literalText(v string) string { return "'" + strings.ReplaceAll(v, "'", "''") + "'" }

// randomLiteral returns a value to compare a column with. ok is false if the column's type has no literals.
func randomLiteral(r *rand.Rand, col *column, rows []row) (l literal, ok bool) {
	t := plainType(col.typ)
	if arrow.IsNested(t.ID()) || t.ID() == arrow.NULL || t.ID() == arrow.FIXED_SIZE_BINARY {
		return l, false
	}
	v := randomValue(r, t, false)
	if len(rows) > 0 && r.IntN(3) > 0 {
		if existing := rows[r.IntN(len(rows))][col.name]; existing != nil {
			v = existing
		}
	}
	switch v := v.(type) {
	case bool:
		return literal{v, fmt.Sprint(v), fmt.Sprint(v)}, true
	case string:
		v = pick(r, v, v, v+"a", v[:len(v)/2])
		if !utf8.ValidString(v) {
			return l, false
		}
		l = literal{value: v, text: literalText(v)}
		if l.sql = l.text; strings.ContainsRune(v, 0) {
			l.sql = ""
		}
		return l, true
	case []byte:
		l = literal{v, "'" + strings.ReplaceAll(string(v), "'", "''") + "'", fmt.Sprintf("unhex('%x')", v)}
		return l, utf8.Valid(v)
	case float64:
		v = pick(r, v, v, v+1, v/3)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			v = pick(r, 0.1, 1e300, -1e300, 1<<24+1)
		}
		l.text = strconv.FormatFloat(v, 'f', -1, 64)
		exactValue, _ := new(big.Rat).SetString(l.text)
		l.value = roundTo(exactValue, t)
		sqlType := "DOUBLE"
		if t.ID() != arrow.FLOAT64 {
			sqlType = "FLOAT"
		}
		if f := l.value.(float64); !math.IsInf(f, 0) {
			l.sql = fmt.Sprintf("CAST('%s' AS %s)", strconv.FormatFloat(f, 'g', -1, 64), sqlType)
		}
		return l, true
	case *big.Rat:
		return exactLiteral(r, t, v)
	}
	return l, false
}

// roundTo returns the value of float type t that is nearest to n.
func roundTo(n *big.Rat, t arrow.DataType) float64 {
	switch t.ID() {
	case arrow.FLOAT64:
		f, _ := n.Float64()
		return f
	case arrow.FLOAT32:
		f, _ := n.Float32()
		return float64(f)
	}
	f, _ := n.Float32()
	return float64(float16.New(f).Float32())
}

// exactLiteral returns a number, date or time that is near v.
func exactLiteral(r *rand.Rand, t arrow.DataType, v *big.Rat) (l literal, ok bool) {
	unit, minCount, maxCount := unitRange(t)
	plus := func(delta *big.Rat) *big.Rat { return new(big.Rat).Add(v, delta) }
	isTime := slices.Contains([]arrow.Type{arrow.DATE32, arrow.DATE64, arrow.TIME32, arrow.TIME64, arrow.TIMESTAMP}, t.ID())
	if !isTime {
		half, huge := big.NewRat(1, 2), new(big.Rat).SetInt(power10(40))
		n := pick(r, v, v, v, plus(ratOf(1)), plus(ratOf(-1)), plus(half), plus(huge), plus(new(big.Rat).Neg(huge)))
		l = literal{value: n, text: strings.TrimSuffix(strings.TrimRight(n.FloatString(40), "0"), ".")}
		if d, isDecimal := t.(arrow.DecimalType); isDecimal {
			scaled := new(big.Rat).Mul(n, new(big.Rat).SetInt(power10(d.GetScale())))
			if scaled.IsInt() && new(big.Int).Abs(scaled.Num()).Cmp(power10(d.GetPrecision())) < 0 {
				l.sql = fmt.Sprintf("CAST('%s' AS DECIMAL(%d, %d))", l.text, d.GetPrecision(), d.GetScale())
			}
		} else if n.IsInt() && (t.ID() == arrow.UINT64 && n.Num().IsUint64() || n.Num().IsInt64() && n.Num().Int64() >= minCount && n.Num().Int64() <= maxCount) {
			l.sql = l.text
		}
		return l, true
	}
	n := pick(r, v, v, v, plus(ratOf(1)), plus(ratOf(-int64(unit))), plus(ratOf(int64(unit))))
	ns := n.Num()
	seconds, nanoseconds := new(big.Int).DivMod(ns, big.NewInt(1e9), new(big.Int))
	if !seconds.IsInt64() {
		return l, false
	}
	moment := time.Unix(seconds.Int64(), nanoseconds.Int64()).UTC()
	isExact := n == v
	if t.ID() == arrow.TIME32 || t.ID() == arrow.TIME64 {
		l = literal{value: n, text: "'" + moment.Format("15:04:05.999999999") + "'"}
		if moment.Unix()/86400 != 0 || moment.Unix() < 0 {
			return l, false
		}
		if l.sql = "TIME " + l.text; unit < time.Microsecond {
			l.sql = ns.String() // SQL stores nanoseconds of a day as a number
		}
		if !isExact {
			l.sql = ""
		}
		return l, true
	}
	if moment.Year() < 1 || moment.Year() > 9999 {
		return l, false
	}
	l = literal{value: n, text: "'" + moment.Format(pick(r, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999")) + "'"}
	timestampType, zoned := t.(*arrow.TimestampType)
	zoned = zoned && timestampType.TimeZone != ""
	switch {
	case !isExact:
	case t.ID() == arrow.DATE32:
		l.sql = "DATE " + l.text
	case zoned && unit < time.Microsecond: // SQL truncates these to microseconds
	case zoned:
		l.sql = "TIMESTAMPTZ " + strings.TrimSuffix(l.text, "'") + "Z'"
	case unit < time.Microsecond && ns.Cmp(big.NewInt(math.MaxInt64)) == 0: // SQL reads this value as infinity
	case unit < time.Microsecond && ns.Cmp(big.NewInt(math.MinInt64)) == 0: // SQL cannot read this value
	case unit < time.Microsecond:
		l.sql = "CAST(" + l.text + " AS TIMESTAMP_NS)"
	default:
		l.sql = "TIMESTAMP " + l.text
	}
	if zoned {
		l.text = "'" + moment.In(time.FixedZone("", pick(r, 0, 5400, -3600))).Format("2006-01-02T15:04:05.999999999Z07:00") + "'"
		zone, err := timestampType.GetZone()
		if err != nil {
			panic(err)
		}
		local := moment.In(zone)
		_, before := local.Add(-day).Zone()
		_, after := local.Add(day).Zone()
		if r.IntN(2) == 0 && before == after && moment.Year() > 1 && moment.Year() < 9999 { // without an offset, a time is in the column's zone
			l.text = "'" + local.Format("2006-01-02 15:04:05.999999999") + "'"
		}
	}
	return l, true
}

func (c *cond) String() string {
	if c.parts != nil {
		texts := make([]string, len(c.parts))
		for i, child := range c.parts {
			texts[i] = "(" + child.String() + ")"
		}
		if c.op == "not" {
			return "not " + texts[0]
		}
		return strings.Join(texts, " "+c.op+" ")
	}
	name := quoteName(c.col.name)
	switch {
	case c.otherCol != nil:
		return name + " " + c.op + " " + quoteName(c.otherCol.name)
	case len(c.values) == 0:
		return name + " " + c.op
	case strings.HasSuffix(c.op, "in"):
		texts := make([]string, len(c.values))
		for i, l := range c.values {
			texts[i] = l.text
		}
		return name + " " + c.op + " (" + strings.Join(texts, ", ") + ")"
	case c.isReversed:
		return c.values[0].text + " " + c.op + " " + name
	}
	return name + " " + c.op + " " + c.values[0].text
}

// sql returns the condition in SQL, or "" if SQL cannot express it. Conditions on floats exclude NaN
// explicitly, because in SQL, NaN equals itself and is larger than all numbers.
func (c *cond) sql() string {
	if c.parts != nil {
		texts := make([]string, len(c.parts))
		for i, child := range c.parts {
			text := child.sql()
			if text == "" {
				return ""
			}
			texts[i] = "(" + text + ")"
		}
		if c.op == "not" {
			return "NOT " + texts[0]
		}
		return strings.Join(texts, " "+c.op+" ")
	}
	name := quoteName(c.col.name)
	switch {
	case c.otherCol != nil:
		if !arrow.TypeEqual(plainType(c.col.typ), plainType(c.otherCol.typ)) || isFloat(c.col.typ) {
			return ""
		}
		return c.String()
	case len(c.values) == 0:
		return c.String()
	}
	texts := make([]string, len(c.values))
	for i, l := range c.values {
		if texts[i] = l.sql; l.sql == "" {
			return ""
		}
	}
	text := name + " " + c.op + " (" + strings.Join(texts, ", ") + ")"
	if c.isReversed {
		text = texts[0] + " " + c.op + " " + name
	}
	switch {
	case !isFloat(c.col.typ):
		return text
	case c.op == "!=" || c.op == "<>" || c.op == "not in":
		return "isnan(" + name + ") OR " + text
	}
	return "NOT isnan(" + name + ") AND " + text
}

// truth is a value of SQL's three-valued logic.
type truth int

const (
	no truth = iota
	unknown
	yes
)

func truthOf(b bool) truth { return map[bool]truth{false: no, true: yes}[b] }

func (c *cond) eval(r row) truth {
	switch c.op {
	case "not":
		return yes - c.parts[0].eval(r)
	case "and", "or":
		all := make([]truth, len(c.parts))
		for i, child := range c.parts {
			all[i] = child.eval(r)
		}
		if c.op == "and" {
			return slices.Min(all)
		}
		return slices.Max(all)
	}
	v := r[c.col.name]
	switch {
	case c.op == "is null":
		return truthOf(v == nil)
	case c.op == "is not null":
		return truthOf(v != nil)
	case v == nil || c.otherCol != nil && r[c.otherCol.name] == nil:
		return unknown
	case c.otherCol != nil:
		w := r[c.otherCol.name]
		if isFloat(c.col.typ) != isFloat(c.otherCol.typ) { // both are compared as float64
			v, w = asFloat(v), asFloat(w)
		}
		return truthOf(isTrue(v, c.op, w))
	case strings.HasSuffix(c.op, "in"):
		isMember := slices.ContainsFunc(c.values, func(l literal) bool { return isTrue(v, "=", l.value) })
		return truthOf(isMember == (c.op == "in"))
	case strings.HasSuffix(c.op, "like"):
		return truthOf(strings.HasPrefix(v.(string), c.values[0].value.(string)) == (c.op == "like"))
	case c.isReversed:
		return truthOf(isTrue(c.values[0].value, c.op, v))
	}
	return truthOf(isTrue(v, c.op, c.values[0].value))
}

func asFloat(v any) float64 {
	if n, ok := v.(*big.Rat); ok {
		f, _ := n.Float64()
		return f
	}
	return v.(float64)
}

// isTrue reports whether a comparison of two values of the same kind is true.
func isTrue(a any, op string, b any) bool {
	var d int
	switch a := a.(type) {
	case bool:
		d = cmp.Compare(truthOf(a), truthOf(b.(bool)))
	case string:
		d = strings.Compare(a, b.(string))
	case []byte:
		d = bytes.Compare(a, b.([]byte))
	case *big.Rat:
		d = a.Cmp(b.(*big.Rat))
	case float64:
		if math.IsNaN(a) || math.IsNaN(b.(float64)) {
			return op == "!=" || op == "<>"
		}
		d = 0
		if a != b.(float64) {
			d = cmp.Compare(a, b.(float64))
		}
	}
	switch op {
	case "=", "==":
		return d == 0
	case "!=", "<>":
		return d != 0
	case "<":
		return d < 0
	case "<=":
		return d <= 0
	case ">":
		return d > 0
	}
	return d >= 0
}
