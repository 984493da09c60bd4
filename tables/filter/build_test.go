package filter_test

import (
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/filter"
)

type symbol string

// TestValues checks that conditions built from values match the expected rows, both directly and after
// their text has been parsed.
func TestValues(t *testing.T) {
	batch := batchOf(t, allTypes, rows)
	defer batch.Release()
	noon := time.Date(2026, 1, 31, 13, 0, 0, 0, time.FixedZone("", 3600))
	for _, c := range []struct {
		e    *filter.Expr
		want string
	}{
		{must.Get(filter.Compare(allTypes.Field(1), "<=", "1"))(t), "[0]"},
		{must.Get(filter.Compare(allTypes.Field(6), "=", "A"))(t), "[0]"},
		{filter.Eq("sym", "it's"), "[1]"},
		{filter.Eq("sym", `' or "x" = 'x`), "[]"},
		{filter.Eq("sym", symbol("A")), "[0]"},
		{filter.Eq("cat", "u"), "[0]"},
		{filter.Ne("sym", "A"), "[1]"},
		{filter.Eq(`BRK.B "x"`, 7), "[0]"},
		{filter.Gt("x", 1.25), "[0]"},
		{filter.Le("x", float32(-2)), "[1]"},
		{filter.Eq("f", float32(0.1)), "[0]"},
		{filter.Eq("f", 0.1), "[0]"},
		{filter.Eq("dec", 1.25), "[0]"},
		{filter.Eq("big", uint64(math.MaxUint64)), "[0]"},
		{filter.Lt("n", 300), "[0 1]"},
		{filter.Ge("n", int8(-1)), "[0 1]"},
		{filter.Eq("ok", true), "[0]"},
		{filter.Eq("utc", noon), "[0]"},
		{filter.Lt("at", noon), "[1]"},
		{filter.Ge("day", noon.Add(-12*time.Hour)), "[0]"},
		{filter.Eq("day", "2026-01-31"), "[0]"},
		{filter.In("sym", "A", "B", "it's"), "[0 1]"},
		{filter.In("n", 1, 2), "[0]"},
		{filter.In[string]("sym"), "[]"},
		{filter.Not(filter.In[string]("sym")), "[0 1 2]"},
		{filter.Between("n", 1, 254), "[0]"},
		{filter.Not(filter.Between("n", 2, 254)), "[0 1]"},
		{filter.Like("sym", "i_'%"), "[1]"},
		{filter.And(nil, filter.Eq("n", 1), nil), "[0]"},
		{filter.Or(filter.Eq("n", 1), filter.IsNull("n")), "[0 2]"},
		{filter.And(filter.Or(filter.Eq("n", 1), filter.Eq("n", 255)), filter.Not(filter.Eq("sym", "A"))), "[1]"},
	} {
		if got := matchingIDs(t, c.e.String(), batch); got != c.want {
			t.Errorf("parsed text of %s: matched rows %q, want %q", c.e, got, c.want)
		}
		if got := matchingIDsOf(t, c.e, batch); got != c.want {
			t.Errorf("%s: matched rows %q, want %q", c.e, got, c.want)
		}
	}
	for _, expr := range []*filter.Expr{filter.And(), filter.And(nil), filter.Or(), filter.Or(filter.Eq("n", 1), nil)} {
		if expr != nil {
			t.Errorf("got condition %s, want nil for all rows", expr)
		}
	}
}

// TestInvalidValues checks that conditions with a value that cannot be compared cause an error, both in Bind
// and after their text has been parsed.
func TestInvalidValues(t *testing.T) {
	bad := filter.Eq("x", math.NaN())
	for _, c := range []struct {
		e    *filter.Expr
		want string
	}{
		{bad, "NaN"},
		{filter.Lt("x", math.Inf(1)), "+Inf"},
		{filter.Eq("id", time.Second), "duration"},
		{filter.Eq("sym", "\xff"), "UTF-8"},
		{filter.In("x", 1, math.NaN()), "NaN"},
		{filter.Between("x", 1, math.NaN()), "NaN"},
		{filter.Not(bad), "NaN"},
		{filter.Not(nil), "pass a condition"},
		{filter.And(filter.Eq("n", 1), filter.Not(filter.And())), "pass a condition"},
		{filter.And(filter.Eq("n", 1), bad), "NaN"},
		{filter.Or(bad, filter.Eq("n", 1)), "NaN"},
		{filter.Eq("n", "1"), "compare it with a number"},
		{filter.Like("n", "1"), "text columns"},
		{filter.Like("utc", "2026%"), "text columns"},
	} {
		if _, err := c.e.Bind(allTypes); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Bind of %s: error = %v, want %q", c.e, err, c.want)
		}
		if e, err := filter.Parse(c.e.String()); err == nil {
			if _, err = e.Bind(allTypes); err == nil {
				t.Errorf("the text %s is a valid condition, want an error", c.e)
			}
		}
	}
}

func TestLike(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "s", Type: arrow.BinaryTypes.LargeString, Nullable: true}}, nil)
	batch := batchOf(t, schema, `[{"id":0,"s":""},{"id":1,"s":"abc"},{"id":2,"s":"aBc"},{"id":3,"s":"a%c"},{"id":4,"s":"äbc"},{"id":5,"s":"abcabc"},{"id":6}]`)
	defer batch.Release()
	for text, want := range map[string]string{
		`s like ''`: "[0]", `s like '%'`: "[0 1 2 3 4 5]", `s like 'abc'`: "[1]", `s like 'a%'`: "[1 2 3 5]", `s like '%c'`: "[1 2 3 4 5]", `s like '_bc'`: "[1 4]",
		`s like '___'`: "[1 2 3 4]", `s like '%b%'`: "[1 4 5]", `s like 'a%c'`: "[1 2 3 5]", `s like '%abc'`: "[1 5]", `s like 'abc%abc'`: "[5]", `s like '%a%a%a%'`: "[]",
		`s like 'a!%c' escape '!'`: "[3]", `s LIKE 'a\%c' ESCAPE '\'`: "[3]", `s not like 'a%'`: "[0 4]", `not s like 'a%'`: "[0 4]", `s like '%%_'`: "[1 2 3 4 5]",
		`s between 'abc' and 'abd'`: "[1 5]", `s not between 'a' and 'b'`: "[0 4]", `s between 'b' and 'a'`: "[]", `s between 'a' and 'b' and id > 1`: "[2 3 5]",
	} {
		if got := matchingIDs(t, text, batch); got != want {
			t.Errorf("%s: matched rows %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		`s like abc`: "text in single quotes", `s like 1`: "text in single quotes", `s like 'a!' escape '!'`: "ends with", `s like 'a' escape 'ab'`: "a single character",
		`s like 'a' escape ''`: "a single character", `id like '1'`: "text columns", `s between 'a'`: "expected and", `s between 'a' or 'b'`: "expected and", `s not = 'a'`: "in, like or between",
	} {
		e, err := filter.Parse(text)
		if err == nil {
			_, err = e.Bind(schema)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error = %v, want %q", text, err, want)
		}
	}
}

// TestLikeOfBounds checks whether like can skip a group of rows because of its bounds.
func TestLikeOfBounds(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}}, nil)
	for _, c := range []struct {
		pattern, minBound, maxBound string
		mayHold                     bool
	}{
		{"b%", "a", "az", false},
		{"b%", "c", "d", false},
		{"b%", "a", "b", true},
		{"b%", "bz", "c", true},
		{"b%", "ba", "bb", true},
		{"%b", "c", "d", true},
		{"bc_", "bc", "bc", true},
		{"bc%", "bb", "bd", true},
		{"bc", "bd", "bz", false},
	} {
		cond := must.Get(filter.Like("s", c.pattern).Bind(schema))(t)
		mayHold, mayFail := cond.May(func(string) filter.Bounds {
			return filter.Bounds{Min: []byte(c.minBound), Max: []byte(c.maxBound), Rows: 2}
		})
		if mayHold != c.mayHold || !mayFail {
			t.Errorf("like %q with bounds %q to %q: May = %v, %v, want %v, true", c.pattern, c.minBound, c.maxBound, mayHold, mayFail, c.mayHold)
		}
	}
	cond, _ := filter.Like("s", "b%").Bind(schema)
	if mayHold, _ := cond.May(func(string) filter.Bounds { return filter.Bounds{Rows: 2, Nulls: -1} }); !mayHold {
		t.Error("May without bounds = false, want true")
	}
}

// TestLikeOfManyPatterns compares like with regular expressions.
func TestLikeOfManyPatterns(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	schema := arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}}, nil)
	text := func(alphabet string, maxLen int) string {
		var out strings.Builder
		for letters := []rune(alphabet); out.Len() < maxLen && r.IntN(8) > 0; {
			out.WriteRune(letters[r.IntN(len(letters))])
		}
		return out.String()
	}
	matched := 0
	for range 5000 {
		pattern, value := text("ab%_ä", 8), text("abä", 10)
		want := regexp.MustCompile("(?s)^" + strings.NewReplacer("%", ".*", "_", ".").Replace(pattern) + "$").MatchString(value)
		cond := must.Get(filter.Like("s", pattern).Bind(schema))(t)
		b := array.NewStringBuilder(memory.DefaultAllocator)
		b.Append(value)
		column := b.NewArray()
		got, err := cond.Holds(1, func(string) arrow.Array { return column })
		if err != nil || got[0] != want {
			t.Fatalf("%q like %q = %v, error %v; want %v", value, pattern, got, err, want)
		}
		mayHold, mayFail := cond.May(func(string) filter.Bounds {
			return filter.Bounds{Min: []byte(value), Max: []byte(value), Rows: 1}
		})
		if want && !mayHold || !want && !mayFail {
			t.Fatalf("%q like %q is %v, but May with bounds that include the value = %v, %v", value, pattern, want, mayHold, mayFail)
		}
		if want {
			matched++
		}
	}
	if matched < 200 {
		t.Fatalf("only %d values matched their patterns, want at least 200", matched)
	}
}

// TestCodes checks that a dictionary column is compared by its text values, even if it is sliced, or if it or its
// dictionary has nulls.
func TestCodes(t *testing.T) {
	texts := []string{"a", "b", "ab", "", "é"}
	dictionary := array.NewStringBuilder(memory.DefaultAllocator)
	dictionary.AppendValues(texts, nil)
	withoutNulls := dictionary.NewArray()
	dictionary.AppendValues(texts, []bool{true, true, false, true, true})
	withNulls := dictionary.NewArray()
	dictionary.AppendValues([]string{"a", "b"}, nil)
	otherDictionary := dictionary.NewArray()
	for name, values := range map[string]arrow.Array{"no nulls": withoutNulls, "nulls in the dictionary": withNulls, "int64 codes": withoutNulls, "empty": array.NewSlice(withoutNulls, 0, 0)} {
		var index arrow.DataType = arrow.PrimitiveTypes.Int32
		if name == "int64 codes" {
			index = arrow.PrimitiveTypes.Int64
		}
		b := array.NewBuilder(memory.DefaultAllocator, index)
		for i := range 40 {
			if i%7 == 3 || values.Len() == 0 {
				b.AppendNull()
			} else if err := b.AppendValueFromString(strconv.Itoa(i % values.Len())); err != nil {
				t.Fatal(err)
			}
		}
		codes := array.NewDictionaryArray(&arrow.DictionaryType{IndexType: index, ValueType: arrow.BinaryTypes.String}, b.NewArray(), values)
		var plain []arrow.Array
		for i := range codes.Len() {
			value := array.MakeArrayOfNull(memory.DefaultAllocator, arrow.BinaryTypes.String, 1)
			if codes.IsValid(i) {
				value = array.NewSlice(values, int64(codes.GetValueIndex(i)), int64(codes.GetValueIndex(i))+1)
			}
			plain = append(plain, value)
		}
		texts := must.Get(array.Concatenate(plain, memory.DefaultAllocator))(t)
		otherColumn := must.Get(array.Concatenate(slices.Repeat([]arrow.Array{otherDictionary}, codes.Len()/2), memory.DefaultAllocator))(t)
		numbers := array.NewInt64Builder(memory.DefaultAllocator)
		for i := range codes.Len() {
			numbers.Append(int64(i))
		}
		id := numbers.NewArray()
		batch := func(s arrow.Array) arrow.RecordBatch {
			fields := []arrow.Field{{Name: "id", Type: id.DataType()}, {Name: "s", Type: s.DataType(), Nullable: true}, {Name: "o", Type: otherColumn.DataType()}}
			return array.NewRecordBatch(arrow.NewSchema(fields, nil), []arrow.Array{id, s, otherColumn}, int64(s.Len())).NewSlice(5, 33)
		}
		for _, text := range []string{"s = 'a'", "s != 'ab'", "not s < 'b'", "s >= ''", "s in ('a', 'é', 'x')", "s like 'a%'", "s is null", "s is not null and s > 'a'", "s = o", "s < o or s is null"} {
			if got, want := matchingIDs(t, text, batch(codes)), matchingIDs(t, text, batch(texts)); got != want {
				t.Errorf("dictionary %s: %s matched rows %s, want %s", name, text, got, want)
			}
		}
	}
}
