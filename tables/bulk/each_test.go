package bulk_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/bulk"
)

// TestEachLazy checks that a result can read the rows of its part, and that the next part comes only after it.
func TestEachLazy(t *testing.T) {
	rows, calls, results := 0, 0, 0
	inputs := []bulk.EachInput{{Name: "in", Rows: testRows(t, rand.New(rand.NewPCG(1, 0)), 3000, 40), By: []string{"n"}}}
	for result, err := range bulk.Each(t.Context(), inputs, &bulk.EachOptions{Parts: 5}, func(_ context.Context, part map[string]array.RecordReader) (array.RecordReader, error) {
		calls++
		part["in"].Retain() // the function read releases it
		if calls == 3 {     // a part without a result
			got, _ := read(t, part["in"], nil)
			rows += len(got)
			return nil, nil
		}
		return part["in"], nil
	}) {
		results++
		got, _ := read(t, result, err)
		rows += len(got)
		if rows == 0 || calls > 5 {
			t.Errorf("%d rows of %d parts", rows, calls)
		}
	}
	if rows != 3000 || calls != 5 || results != 4 {
		t.Errorf("%d rows of %d parts, %d results, want 3,000 of 5 and 4 results", rows, calls, results)
	}
}

// TestEachEnds checks that an error ends the sequence, that a consumer can stop, and that neither leaves files.
func TestEachEnds(t *testing.T) {
	broken := errors.New("broken")
	in := func(name string) bulk.EachInput {
		return bulk.EachInput{Name: name, Rows: testRows(t, rand.New(rand.NewPCG(1, 0)), 300, 40), By: []string{"key"}}
	}
	one := func(context.Context, map[string]array.RecordReader) (array.RecordReader, error) {
		return testRows(t, rand.New(rand.NewPCG(1, 0)), 1, 1), nil
	}
	for name, c := range map[string]struct {
		inputs []bulk.EachInput
		o      bulk.EachOptions
		f      bulk.EachFunc
		stop   bool
		want   string
	}{
		"function": {[]bulk.EachInput{in("a")}, bulk.EachOptions{Parts: 3}, func(context.Context, map[string]array.RecordReader) (array.RecordReader, error) { return nil, broken }, false, "bulk: each: broken"},
		"stop":     {[]bulk.EachInput{in("a")}, bulk.EachOptions{Parts: 3}, one, true, ""},
		"memory":   {[]bulk.EachInput{in("a")}, bulk.EachOptions{Memory: 1}, one, false, "bulk: each: the memory limit is 1 bytes: use at least 67108864"},
		"names":    {[]bulk.EachInput{in("a"), in("a")}, bulk.EachOptions{}, one, false, `bulk: each: two inputs are named "a"`},
		"none":     {nil, bulk.EachOptions{}, one, false, "bulk: each: there are no inputs"},
		"column":   {[]bulk.EachInput{{Name: "a", Rows: in("a").Rows, By: []string{"list"}}}, bulk.EachOptions{}, one, false, `bulk: each: input "a": column "list" of type list<element: float64, nullable>: values of this type cannot be keys`},
	} {
		c.o.Temp = t.TempDir()
		steps, text := 0, ""
		for result, err := range bulk.Each(t.Context(), c.inputs, &c.o, c.f) {
			steps++
			if err != nil {
				text = err.Error()
				continue
			}
			result.Release()
			if c.stop {
				break
			}
		}
		if steps != 1 || text != c.want {
			t.Errorf("%s: %d steps, error %q; want one step, error %q", name, steps, text, c.want)
		}
		if entries, err := os.ReadDir(c.o.Temp); err != nil || len(entries) > 0 {
			t.Errorf("%s: the files %v are left; error %v", name, entries, err)
		}
	}
}
