package transform_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/transform"
)

// TestFunctionCalls checks functions of single columns, as calls and as pandas' dict, and the errors that name what
// cannot be.
func TestFunctionCalls(t *testing.T) {
	s := newStore(t)
	integer := arrow.PrimitiveTypes.Int64
	put(t, s, "in", tables.PutReplace, rows(t, `[{"t":"2024-01-01 00:00:01","a":3,"b (c)":5,"s":"x"},{"t":"2024-01-01 00:00:02","a":1,"b (c)":7,"s":"y"}]`,
		timeField(arrow.Microsecond, ""), arrow.Field{Name: "a", Type: integer}, arrow.Field{Name: "b (c)", Type: integer}, arrow.Field{Name: "s", Type: arrow.BinaryTypes.String}))
	const day = `"t":"2024-01-01T00:00:00"}`
	for _, c := range []struct{ functions, want string }{
		{`["max(a)"]`, `{"a":3,`},
		{`{"b (c)": "sum", "a": "first"}`, `{"a":3,"b (c)":12,`},
		{`{"a": ["min", "max"], "s": "last"}`, `{"a_max":3,"a_min":1,"s_last":"y",`},
		{`{"a": "ohlc", "b (c)": ["mean"]}`, `{"a_close":1,"a_high":3,"a_low":1,"a_open":3,"b (c)":6,`},
		{`["size", "max(a)", "count(s)"]`, `{"a":3,"s":2,"size":2,`},
		{`{"a": "size"}`, `{"a":2,`},
		{`{"first": "a"}`, `unknown function "a"`},
		{`{"first": ["a"]}`, `unknown function "a"`},
		{`{"missing": "max"}`, `missing`},
		{`{"s": "mean"}`, `column "s": it has type utf8, but mean needs numbers`},
		{`{"a": ["max", "max"]}`, `two columns`},
		{`{"a": {"x": "max"}}`, `cannot unmarshal object`},
		{`{"a": null}`, `unknown function ""`},
		{`{"a": "ffill"}`, `ffill must be the only function`},
		{`["max(a)", "min"]`, `min needs a column`},
		{`["max(a"]`, `write max(COLUMN)`},
		{`["max()"]`, `write max(COLUMN)`},
		{`{}`, `no function given`},
	} {
		var o transform.ResampleOptions
		got := ""
		err := json.Unmarshal([]byte(`{"Rule":"D","TimeColumn":"t","Functions":`+c.functions+`}`), &o)
		if o.Source = tableName("in"); err == nil {
			o.Target, o.Mode = tableName("out"), tables.PutReplace
			if _, err = transform.Resample(t.Context(), s, &o); err == nil {
				got, _ = text(t, s, "out")
			}
		}
		if strings.HasPrefix(c.want, "{") && (err != nil || got != c.want+day) || !strings.HasPrefix(c.want, "{") && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: rows %s, error %v; want %s", c.functions, got, err, c.want)
		}
	}
	_, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName("in"), Rule: "D", TimeColumn: "t", Functions: []string{"max(a)"}, Columns: []string{"a"}})
	must.Fail(t, err, "cannot be combined with Columns", "Resample() with max(a) and Columns")
	if calls := (transform.FunctionCalls{"max(a)"}); !slices.Equal(calls, []string{"max(a)"}) {
		t.Error("a FunctionCalls is not a slice of strings")
	}
}
