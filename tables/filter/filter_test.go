package filter_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/filter"
)

func batchOf(t testing.TB, schema *arrow.Schema, json string) arrow.RecordBatch {
	t.Helper()
	b, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(json))
	must.Do(t, err)
	return b
}

var allTypes = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "n", Type: arrow.PrimitiveTypes.Uint8, Nullable: true},
	{Name: "big", Type: arrow.PrimitiveTypes.Uint64, Nullable: true},
	{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "f", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
	{Name: "half", Type: arrow.FixedWidthTypes.Float16, Nullable: true},
	{Name: "sym", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "ok", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
	{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Millisecond}, Nullable: true},
	{Name: "utc", Type: &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}, Nullable: true},
	{Name: "clock", Type: arrow.FixedWidthTypes.Time64us, Nullable: true},
	{Name: "dec", Type: &arrow.Decimal128Type{Precision: 10, Scale: 2}, Nullable: true},
	{Name: "BRK.B \"x\"", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
	{Name: "cat", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, Nullable: true},
	{Name: "list", Type: arrow.ListOf(arrow.PrimitiveTypes.Int8), Nullable: true},
}, nil)

const rows = `[
{"id":0,"n":1,"big":18446744073709551615,"x":1.5,"f":0.1,"half":0.1,"sym":"A","ok":true,"day":"2026-01-31","at":"2026-01-31 12:00:00.5","utc":"2026-01-31 12:00:00Z","clock":"12:00:00","dec":"1.25","BRK.B \"x\"":7,"cat":"u","list":[1]},
{"id":1,"n":255,"big":0,"x":-2,"f":2,"half":2,"sym":"it's","ok":false,"day":"1969-12-31","at":"1960-01-01 00:00:00","utc":"2026-02-01 00:00:00Z","clock":"00:00:00","dec":"-1.25","BRK.B \"x\"":-7,"cat":"v","list":[]},
{"id":2}]`

// matchingIDs returns the IDs of the rows where an expression is true.
func matchingIDs(t testing.TB, text string, batch arrow.RecordBatch) string {
	t.Helper()
	e, err := filter.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return matchingIDsOf(t, e, batch)
}

func matchingIDsOf(t testing.TB, e *filter.Expr, batch arrow.RecordBatch) string {
	t.Helper()
	out, err := e.Filter(t.Context(), batch)
	if err != nil {
		t.Fatalf("%s: %v", e, err)
	}
	defer out.Release()
	return fmt.Sprint(out.Column(0).(*array.Int64).Int64Values())
}

func TestFilter(t *testing.T) {
	batch := batchOf(t, allTypes, rows)
	for text, want := range map[string]string{
		"id = 0": "[0]", "id == 0": "[0]", "id != 0": "[1 2]", "id <> 1": "[0 2]", "1 < id": "[2]", "id<=1": "[0 1]", "ID": "",
		"x > 1": "[0]", "x >= 1.5 and sym in ('A','B')": "[0]", "x is null": "[2]", "x is not null": "[0 1]",
		"not x > 1": "[1]", "not (x > 1 or x is null)": "[1]", "x > 1 or x is null": "[0 2]", "x > 1 or sym = 'nope'": "[0]",
		"x > 1 or id >= 0": "[0 1 2]", "x > 1 and id < 0": "[]", "not (x > 1 and id < 0)": "[0 1 2]", "not (x > 1 and id >= 0)": "[1]",
		"n < 300": "[0 1]", "n > 300": "[]", "n != 300": "[0 1]", "n = 300": "[]", "n > -1": "[0 1]", "n <= -1": "[]", "not n > 300": "[0 1]",
		"n > 0.5": "[0 1]", "n >= 1.5": "[1]", "n < 1.5": "[0]", "n = 1.5": "[]", "n != 1.5": "[0 1]", "n in (1.5, 1e0)": "[0]", "n not in (1.5)": "[0 1]", "n in (1.5)": "[]",
		"big = 18446744073709551615": "[0]", "big > 18446744073709551614": "[0]", "big < 1e30": "[0 1]", "big > 1e30": "[]",
		"f = 0.1": "[0]", "f > 0.1": "[1]", "half = 0.1": "[0]", "half > 0.1": "[1]", "half in (0.1, 7)": "[0]",
		"x > f": "[0]", "x < f": "[1]", "id <= n": "[0 1]", "not id <= n": "[]", "n = x": "[]", "n < x": "[0]", "id != f": "[0 1]", "x > id": "[0]", "sym = cat": "[]", "sym < cat": "[0 1]",
		"sym = 'it''s'": "[1]", "sym not in ('A')": "[1]", "sym > 'A'": "[1]", "sym = ''": "[]",
		"ok = true": "[0]", "ok != TRUE": "[1]", "ok in (true, false)": "[0 1]", "ok < true": "[1]",
		"day = '2026-01-31'": "[0]", "day < '1970-01-01'": "[1]", "day > '2026-01-30 23:00'": "[0]", "day = '2026-01-31 00:00:01'": "[]",
		"at > '2026-01-31 12:00:00.4999'": "[0]", "at = '2026-01-31T12:00:00.5'": "[0]", "at < '1960-01-02'": "[1]", "at = '2026-01-31 12:00:00.5001'": "[]",
		"utc = '2026-01-31 13:00:00+01:00'": "[0]", "utc >= '2026-02-01'": "[1]", "utc < '9999-01-01'": "[0 1]",
		"clock = '12:00'": "[0]", "clock < '00:00:00.000001'": "[1]",
		"dec = 1.25": "[0]", "dec > 1.2499": "[0]", "dec in (1.251, -1.25)": "[1]", "dec < 1e50": "[0 1]", "dec >= -1.255": "[0 1]",
		`"BRK.B ""x""" = 7`: "[0]", "cat = 'u'": "[0]", "cat is null": "[2]", "cat not in ('u')": "[1]", "list is null": "[2]",
		"NOT NOT id = 0 AND NOT (id IN (1,2))": "[0]", "((((id = 1))))": "[1]", "id = -0": "[0]", "id = +1": "[1]", "x = -.2e1": "[1]",
		"id = 0 or id = 1 and id = 2": "[0]", "(id = 0 or id = 1) and id = 2": "[]",
	} {
		if want == "" {
			if _, err := filter.Parse(text); err == nil {
				t.Errorf("Parse(%q) succeeded, want an error", text)
			}
			continue
		}
		if got := matchingIDs(t, text, batch); got != want {
			t.Errorf("%s: matched rows %s, want %s", text, got, want)
		}
	}
}

// TestExactNumbers checks that numbers of any types are compared exactly, including all digits of decimals, and that NaN
// is neither equal to, less than nor greater than any number.
func TestExactNumbers(t *testing.T) {
	nines := strings.Repeat("9", 38)
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "u", Type: arrow.PrimitiveTypes.Uint64, Nullable: true},
		{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "g", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
		{Name: "d", Type: &arrow.Decimal128Type{Precision: 38}, Nullable: true},
		{Name: "e", Type: &arrow.Decimal128Type{Precision: 38, Scale: 2}, Nullable: true},
	}, nil)
	batch := batchOf(t, schema, `[
{"id":0,"i":9007199254740993,"u":18446744073709551615,"f":9007199254740992,"g":16777216,"d":"`+nines+`","e":"1.50"},
{"id":1,"i":16777217,"u":16777217,"f":18446744073709551616,"g":16777216,"d":"-`+nines+`","e":"16777217.00"},
{"id":2,"i":9223372036854775807,"u":0,"f":9223372036854775808,"g":1.5,"d":"`+nines[1:]+`8","e":"1.50"},
{"id":3,"i":-9223372036854775808,"u":1,"f":-9223372036854775808,"g":-0.0,"d":"0","e":"0"},
{"id":4},
{"id":5,"f":"NaN"}]`)
	for text, want := range map[string]string{
		"i = f": "[3]", "i > f": "[0]", "f < i": "[0]", "f > i": "[1 2]", "i != f": "[0 1 2]", "i <= f": "[1 2 3]",
		"i = g": "[]", "i > g": "[0 1 2]", "u = g": "[]", "u = i": "[1]", "u > f": "[0 3]", "u < f": "[1 2]", "f = u": "[]",
		"d = " + nines: "[0]", "d < " + nines: "[1 2 3]", "d > " + nines[1:] + "8": "[0]", "d in (" + nines + ", -" + nines + ")": "[0 1]", "d >= 1" + nines: "[]", "d < 1" + nines: "[0 1 2 3]",
		"e = g": "[2 3]", "e = u": "[1]", "e > g": "[1]", "d > e": "[0 2]", "d = e": "[3]", "g = d": "[3]", "d > f": "[0 2 3]", "f >= d": "[1]",
		"id = 5 and f > 1": "[]", "id = 5 and f < 1": "[]", "id = 5 and not f > 1": "[5]", "id = 5 and f = 3": "[]", "id = 5 and f != 3": "[5]", "id = 5 and f in (3)": "[]", "id = 5 and f not in (3)": "[5]",
	} {
		if got := matchingIDs(t, text, batch); got != want {
			t.Errorf("%s: matched rows %s, want %s", text, got, want)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	deep := strings.Repeat("(", 101) + "a = 1" + strings.Repeat(")", 101)
	for text, want := range map[string]string{
		"": "position 1: expected a column name", "a": "position 2: expected a comparison: =", "Cost Total > 3": "position 6: expected a comparison (a column name with spaces needs double quotes): =", "a =": "position 4: expected a number",
		"a = 'x": "position 5: the quote ' is not closed", "a = null": "position 5: a comparison with null", "a = 1 b": `position 7: expected "and", "or" or the end, found "b"`,
		"a in 1": `position 6: expected "("`, "a in (1": `expected ","`, "a in ()": "position 7: expected a number", "a not 1": "position 7: expected in",
		"a is 1": "position 6: expected null", "(a = 1": `position 7: expected ")"`, "a ; b": `unexpected ';'`,
		"a = 1_0": "not a number", "a = 1e999999": "not a number", "a = 1e1000": "not a number", "a = --1": "not a number", "and = 1": "expected a column name", "1 = 1": "expected a column name",
		deep: "nested more than 100 levels deep", strings.Repeat("not ", 200) + "a = 1": "more than 100", strings.Repeat("x", 1<<20+1): "the limit is 1048576",
		"a = " + strings.Repeat("9", 500): "not a number", "a = \xff": `unexpected`,
	} {
		_, err := filter.Parse(text)
		var syntax *filter.SyntaxError
		if !errors.As(err, &syntax) || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.50q) error = %v, want a SyntaxError that contains %s", text, err, want)
		}
	}
	long := strings.Repeat("id = 1 or ", 50_000) + "id = 2"
	if got := matchingIDs(t, long, batchOf(t, allTypes, rows)); got != "[1 2]" {
		t.Errorf("a chain of 50,000 conditions matched rows %s, want [1 2]", got)
	}
}

func TestBindErrors(t *testing.T) {
	for text, want := range map[string]string{
		"pric > 1": `position 1: 0 columns have the name "pric"; the columns are "id", "n", `, "Id = 1": `0 columns have the name "Id"`,
		"sym = 1": `position 7: column "sym" has type utf8: compare it with text in single quotes, not with 1`, "id = '1'": `column "id" has type int64: compare it with a number, not with '1'`,
		"ok = 1": "compare it with true or false", "x = true": "with a number, not with true", "day = 5": "single quotes", "day = 'soon'": "is not a date or time",
		"at = '2026-01-31 12:00Z'": "has an offset from UTC", "clock = '25:00'": "is not a time of day", "list = 1": `supports only "is null"`, "sym = A": `0 columns have the name "A"`, "x > sym": `column "x" of type float64 and column "sym" of type utf8 cannot be compared`, "list = id": "cannot be compared", "id in (1, 'a')": "position 11",
	} {
		e := must.Get(filter.Parse(text))(t)
		if _, err := e.Bind(allTypes); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Bind of %s: error = %v, want %s", text, err, want)
		}
	}
}

// TestMayIsConservative checks Condition.May with random expressions and groups of rows, whose bounds can be
// wider than their values. If May reports that no row matches, none may match; if it reports that all rows match,
// all must match.
func TestMayIsConservative(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "i", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "f", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "d", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "t", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
		{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "dec", Type: &arrow.Decimal128Type{Precision: 9, Scale: 1}, Nullable: true},
	}, nil)
	literals := map[string][]string{
		"i": {"1", "2", "1.5", "-3e20", "7e9"}, "x": {"1", "1.5", "-2"}, "f": {"0.1", "1e300", "2"}, "s": {"'a'", "'b'", "''"}, "d": {"'1970-01-02'", "'1970-01-02 12:00'", "'1969-12-31'"},
		"t": {"'1970-01-01 00:00:01'", "'1970-01-01 00:00:00.0000015'", "'0001-01-01'"}, "b": {"true", "false"}, "dec": {"0.1", "0.15", "-1e40"},
	}
	columns := slices.Sorted(func(yield func(string) bool) {
		for c := range literals {
			if !yield(c) {
				return
			}
		}
	})
	pick := func(options []string) string { return options[random.IntN(len(options))] }
	var expression func(depth int) string
	expression = func(depth int) string {
		switch k := random.IntN(6); {
		case depth > 0 && k < 2:
			return "(" + expression(depth-1) + pick([]string{" and ", " or "}) + expression(depth-1) + ")"
		case depth > 0 && k == 2:
			return "not " + expression(depth-1)
		}
		c := pick(columns)
		switch random.IntN(5) {
		case 0:
			return c + pick([]string{" is null", " is not null"})
		case 1:
			return c + pick([]string{" in (", " not in ("}) + pick(literals[c]) + "," + pick(literals[c]) + ")"
		}
		return c + pick([]string{" = ", " != ", " < ", " <= ", " > ", " >= "}) + pick(literals[c])
	}
	values := map[string][]any{
		"i": {nil, 1, 2, -5}, "x": {nil, 1, 1.5, -2, 9, "NaN"}, "f": {nil, 0.1, 2}, "s": {nil, "a", "b", "c", ""}, "d": {nil, "1970-01-01", "1970-01-02", "1970-01-03"},
		"t": {nil, "1970-01-01 00:00:01", "1970-01-01 00:00:00.000001", "1970-01-01 00:00:00.000002"}, "b": {nil, true, false}, "dec": {nil, "0.1", "0.2", "-5.0"},
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for i := range 400 {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		for k, f := range schema.Fields()[1:] {
			if v := values[f.Name][random.IntN(len(values[f.Name]))]; v == nil {
				b.Field(k + 1).AppendNull()
			} else if err := b.Field(k + 1).AppendValueFromString(fmt.Sprint(v)); err != nil {
				t.Fatal(err)
			}
		}
	}
	batch := b.NewRecordBatch()
	excluded, included := 0, 0
	for range 3000 {
		text := expression(3)
		e, err := filter.Parse(text)
		if err != nil {
			t.Fatalf("%v: Parse: %v", text, err)
		}
		c, err := e.Bind(schema)
		if err != nil {
			t.Fatalf("%v: Bind: %v", text, err)
		}
		start := random.Int64N(batch.NumRows())
		group := batch.NewSlice(start, min(batch.NumRows(), start+1+random.Int64N(8)))
		out, err := e.Filter(t.Context(), group)
		if err != nil {
			t.Fatalf("%v: Filter: %v", text, err)
		}
		mayHold, mayFail := c.May(func(name string) filter.Bounds {
			b := boundsOf(group.Column(schema.FieldIndices(name)[0]))
			switch random.IntN(10) {
			case 0:
				b.Min = nil
			case 1:
				b.Max = nil
			case 2:
				b.Nulls = -1
			case 3: // other programs cut a text
				if name == "s" {
					b.Min = b.Min[:min(len(b.Min), random.IntN(2))]
				}
			case 4: // or write a bound of a wrong size
				if name != "s" {
					b.Min, b.Max = []byte{0xff, 0xff, 0xff}, []byte{}
				}
			case 5: // the bound is older than the column's type
				b.Min, b.Max = olderBound(name, b.Min), olderBound(name, b.Max)
			}
			return b
		})
		switch {
		case !mayHold && out.NumRows() > 0 || !mayFail && out.NumRows() < group.NumRows():
			t.Fatalf("seed %d: %s matched %d of %d rows, but May = %v, %v; rows: %v", seed, text, out.NumRows(), group.NumRows(), mayHold, mayFail, group)
		case !mayHold:
			excluded++
		case !mayFail:
			included++
		}
	}
	if excluded < 600 || included < 200 {
		t.Errorf("of 3000 groups, May excluded %d and fully included %d; want at least 600 and 200", excluded, included)
	}
}

// olderBound returns a bound from when the column x was a float32, or the column t a date.
func olderBound(column string, bound []byte) []byte {
	switch {
	case bound != nil && column == "x":
		return binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(math.Float64frombits(binary.LittleEndian.Uint64(bound)))))
	case bound != nil && column == "t":
		return binary.LittleEndian.AppendUint32(nil, 18262) // days
	}
	return bound
}

// boundsOf returns the bounds of a column, encoded as in Parquet.
func boundsOf(a arrow.Array) filter.Bounds {
	b := filter.Bounds{Rows: int64(a.Len()), Nulls: int64(a.NullN())}
	var all [][]byte
	add := func(i int, v []byte, nan bool) {
		if a.IsValid(i) && !nan {
			all = append(all, v)
		}
	}
	compare := func(x, y []byte) int { return bytes.Compare(x, y) }
	compareInts := func(x, y []byte) int {
		if len(x) == 4 {
			return cmp.Compare(int32(binary.LittleEndian.Uint32(x)), int32(binary.LittleEndian.Uint32(y)))
		}
		return cmp.Compare(int64(binary.LittleEndian.Uint64(x)), int64(binary.LittleEndian.Uint64(y)))
	}
	encode32 := func(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
	encode64 := func(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
	for i := range a.Len() {
		switch a := a.(type) {
		case *array.String:
			add(i, []byte(a.Value(i)), false)
		case *array.Int32:
			add(i, encode32(uint32(a.Value(i))), false)
			compare = compareInts
		case *array.Date32:
			add(i, encode32(uint32(a.Value(i))), false)
			compare = compareInts
		case *array.Timestamp:
			add(i, encode64(uint64(a.Value(i))), false)
			compare = compareInts
		case *array.Float32:
			add(i, encode32(math.Float32bits(a.Value(i))), a.Value(i) != a.Value(i))
			compare = func(x, y []byte) int {
				return cmp.Compare(math.Float32frombits(binary.LittleEndian.Uint32(x)), math.Float32frombits(binary.LittleEndian.Uint32(y)))
			}
		case *array.Float64:
			add(i, encode64(math.Float64bits(a.Value(i))), a.Value(i) != a.Value(i))
			compare = func(x, y []byte) int {
				return cmp.Compare(math.Float64frombits(binary.LittleEndian.Uint64(x)), math.Float64frombits(binary.LittleEndian.Uint64(y)))
			}
		}
	}
	if len(all) > 0 {
		b.Min, b.Max = slices.MinFunc(all, compare), slices.MaxFunc(all, compare)
	}
	return b
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"price > 100 and sym in ('A','B')", `not ("BRK.B" is not null or 1e-3 <= x)`, "day >= '2026-01-31' or ok != true", "a in (1,2.5,-3)", "clock<'12:00'", "((", "'", "dec=1e400", "x=.", "n not in (1e-400)"} {
		f.Add(seed)
	}
	batch := batchOf(f, allTypes, rows)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := filter.Parse(text)
		if err != nil {
			return
		}
		if _, err := e.Bind(allTypes); err != nil {
			return
		}
		out := must.Get(e.Filter(t.Context(), batch))(t)
		out.Release()
	})
}

// TestNilExpr checks that a nil Expr, which And returns without arguments, is true for all rows.
func TestNilExpr(t *testing.T) {
	batch := batchOf(t, arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64}}, nil), `[{"a":1},{"a":2}]`)
	expr := filter.And()
	if expr != nil || expr.String() != "" || len(expr.Columns()) != 0 {
		t.Errorf("And() = %v, with text %q and columns %q, want nil, \"\" and none", expr, expr.String(), expr.Columns())
	}
	matching, err := expr.Filter(t.Context(), batch)
	if err != nil || matching.NumRows() != 2 {
		t.Errorf("Filter of a nil Expr = %v, error %v; want both rows", matching, err)
	}
	c := must.Get(expr.Bind(batch.Schema()))(t)
	if mayHold, mayFail := c.May(nil); !mayHold || mayFail {
		t.Errorf("May = %+v, %+v; want true and false", mayHold, mayFail)
	}
}
