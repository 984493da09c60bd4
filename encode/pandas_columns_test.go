package encode

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/pyvalue/pickle"
	"github.com/go-partd/partd/internal/testutil/must"
)

func TestPandasColumnsErrors(t *testing.T) {
	s := NewPandasColumns(partd.NewDict(), nil)
	for want, f := range map[string]DataFrame{
		"column z: PandasColumns does not support datetime64[s, UTC]": {Columns: []Column{{"z", Times{"s", "UTC", []int64{1}}}}},
		"column t: PandasColumns does not support encode.Texts":       {Columns: []Column{{"t", Texts{Values: []string{"a"}}}}},
		"column c: PandasColumns does not support category":           {Columns: []Column{{"c", Categorical{[]int32{0}, []any{"x"}, false}}}},
		"column 5: another column has the same key":                   {Columns: []Column{{"5", []int64{1}}, {5, []int64{1}}}},
		"column a.dtype: another column has the same key":             {Columns: []Column{{"a", []int64{1}}, {"a.dtype", []int64{1}}}},
		"column b: another column has the same key":                   {Columns: []Column{{"b.dtype", []int64{1}}, {"b", []int64{1}}}},
		"column .index: another column has the same key":              {Columns: []Column{{".index", []int64{1}}}},
		"column .columns: another column has the same key":            {Columns: []Column{{".columns", []int64{1}}}},
		"a range of 9223372036854775807 numbers is over":              {Index: Column{nil, Range{math.MinInt64, math.MaxInt64, 1}}},
		"its name is a float64":                                       {Columns: []Column{{1.5, []int64{1}}}},
		"has 1 rows":                                                  {Columns: []Column{{"a", []int64{1, 2}}, {"b", []int64{1}}}},
	} {
		if err := s.Append(t.Context(), Entry[DataFrame]{"k", f}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Append = %v, want an error with %q", err, want)
		}
	}
	for info, err := range partd.Keys(t.Context(), s.Unwrap()) {
		t.Errorf("after failed appends, Keys yields %v, %v, want nothing", info, err)
	}
	must.Do(t, s.Unwrap().Append(t.Context(), partd.Entry{Key: "left-|-a", Value: make([]byte, 3)}))
	err := s.Append(t.Context(), Entry[DataFrame]{"left", DataFrame{Columns: []Column{{"a", []int64{1}}}}})
	if !errors.Is(err, ErrDtype) || !strings.Contains(err.Error(), "the key holds data") {
		t.Errorf("Append to a column without a dtype = %v, want ErrDtype", err)
	}
	must.Do(t, s.Append(t.Context(), Entry[DataFrame]{"k", DataFrame{Columns: []Column{{"a", []int64{1}}}}}))
	for _, f := range []DataFrame{
		{Columns: []Column{{"a", []float64{1}}}},
		{Columns: []Column{{"b", []int64{1}}}},
		{Columns: []Column{{"a", []int64{1}}}, Index: Column{"named", []int64{1}}},
	} {
		if err := s.Append(t.Context(), Entry[DataFrame]{"k", f}); !errors.Is(err, ErrDtype) {
			t.Errorf("Append of a frame with other columns or types = %v, want ErrDtype", err)
		}
	}
	if _, err := s.Get(t.Context(), "k", "b"); err == nil || !strings.Contains(err.Error(), "the column does not exist") {
		t.Errorf("Get of a missing column = %v, want an error", err)
	}
	if f, err := s.Get(t.Context(), "never"); err != nil || len(f.Columns) != 0 {
		t.Errorf("Get of a missing key = %v, %v, want no columns", f, err)
	}
	list := must.Get(pickle.Append(nil, []any{[]any{"x"}}))(t)
	must.Do(t, s.Unwrap().Append(t.Context(), partd.Entry{Key: "list-|-.columns", Value: list}, partd.Entry{Key: "list-|-.index-name", Value: []byte("N.")}))
	if _, err := s.Get(t.Context(), "k", "a", "a"); err == nil || !strings.Contains(err.Error(), "column a is requested twice") {
		t.Errorf("Get of the same column twice = %v, want an error", err)
	}
	if _, err := s.Get(t.Context(), "list"); err == nil || !strings.Contains(err.Error(), "names of type list") {
		t.Errorf("Get of a column whose name is a list = %v, want an error", err)
	}
	must.Do(t, s.Drop(t.Context()))
}
