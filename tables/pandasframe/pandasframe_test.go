package pandasframe_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/tables/internal/peers"
	"github.com/go-partd/partd/tables/pandasframe"
)

func frames() []encode.DataFrame {
	numbers := []encode.Column{
		{Name: "b", Values: []bool{true, false}},
		{Name: "i1", Values: []int8{-1, 2}},
		{Name: "i2", Values: []int16{-1, 2}},
		{Name: "i4", Values: []int32{-1, 2}},
		{Name: "i8", Values: []int64{math.MinInt64, 2}},
		{Name: "u1", Values: []uint8{255, 2}},
		{Name: "u2", Values: []uint16{255, 2}},
		{Name: "u4", Values: []uint32{255, 2}},
		{Name: "u8", Values: []uint64{math.MaxUint64, 2}},
		{Name: "f4", Values: []float32{0.5, 2}},
		{Name: "f8", Values: []float64{0.5, math.Inf(1)}},
	}
	rest := []encode.Column{
		{Name: "t", Values: encode.Times{Unit: "us", Counts: []int64{5, math.MinInt64}}},
		{Name: "z", Values: encode.Times{Unit: "ns", Zone: "Europe/Paris", Counts: []int64{5, 6}}},
		{Name: "o", Values: encode.Times{Unit: "ms", Zone: "UTC+02:00", Counts: []int64{5, 6}}},
		{Name: "u", Values: encode.Times{Unit: "s", Zone: "UTC", Counts: []int64{5, 6}}},
		{Name: "d", Values: encode.Durations{Unit: "ms", Counts: []int64{math.MinInt64, 6}}},
		{Name: "text", Values: []any{"a", nil}},
		{Name: "bytes", Values: []any{nil, []byte{0xff}}},
		{Name: "s", Values: encode.Texts{Values: []string{"", "é"}, Null: []bool{true, false}}},
		{Name: "s2", Values: encode.Texts{Values: []string{"", "é"}}},
		{Name: "c", Values: encode.Categorical{Codes: []int32{-1, 1}, Categories: []any{"x", "y"}, Ordered: true}},
		{Name: "c2", Values: encode.Categorical{Codes: []int32{0, 1}, Categories: []int64{7, 8}}},
	}
	return []encode.DataFrame{
		{Columns: numbers, Index: encode.Column{Values: encode.Range{Start: 7, Stop: math.MaxInt64, Step: math.MaxInt64 - 10}}},
		{Columns: rest, Index: encode.Column{Name: "when", Values: encode.Times{Unit: "us", Zone: "UTC", Counts: []int64{5, 6}}}},
		{Columns: numbers[:1], Index: encode.Column{Values: []int64{5, 6}}},
		{Columns: numbers[:1], Index: encode.Column{Name: "b", Values: []int64{5, 6}}},
		{Columns: numbers[:1], Index: encode.Column{Name: "", Values: []int64{5, 6}}},
		{Columns: []encode.Column{{Name: "__index_level_0__", Values: []int8{1, 2}}}, Index: encode.Column{Values: []int64{5, 6}}},
	}
}

func TestFramesAndBatches(t *testing.T) {
	for i, f := range frames() {
		b, err := pandasframe.Batch(f)
		if err != nil {
			t.Fatal(err)
		}
		back, err := pandasframe.Frame(b)
		if err != nil || !reflect.DeepEqual(back, f) {
			t.Errorf("frame %d: Frame of its batch: error %v, got\n%v\nwant\n%v", i, err, back, f)
		}
		part, err := pandasframe.Frame(b.NewSlice(1, 2))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := pandasframe.Batch(part); err != nil || !array.RecordEqual(again, b.NewSlice(1, 2)) {
			t.Errorf("frame %d: a slice of its batch became the frame %v, whose batch differs; error %v", i, part, err)
		}
	}
}

// TestNoRows checks that Python can read the index of a batch without rows.
func TestNoRows(t *testing.T) {
	b := array.NewRecordBatch(arrow.NewSchema(nil, nil), nil, 0)
	d, err := pandasframe.Frame(b)
	if want := (encode.Range{Step: 1}); err != nil || d.Index.Values != want {
		t.Errorf("Frame of a batch without rows = %v, error %v; want the index %v", d, err, want)
	}
	if same, err := pandasframe.Blocks(nil).Join([]arrow.RecordBatch{b}); err != nil || same != b {
		t.Errorf("Join of a batch without blocks = %v, error %v; want the same batch", same, err)
	}
}

func TestRefused(t *testing.T) {
	for want, f := range map[string]encode.DataFrame{
		"column 5: its name is a int":                                 {Columns: []encode.Column{{Name: 5, Values: []int64{1}}}},
		"column x: values of type []complex128":                       {Columns: []encode.Column{{Name: "x", Values: []complex128{1}}}},
		"element 1 is a string":                                       {Columns: []encode.Column{{Name: "x", Values: []any{[]byte("a"), "b"}}}},
		"element 0 is a float64":                                      {Columns: []encode.Column{{Name: "x", Values: []any{1.5}}}},
		"column x: it has 1 rows, but the frame has 2":                {Columns: []encode.Column{{Name: "w", Values: []int8{1, 2}}, {Name: "x", Values: []int8{1}}}},
		"column x: field Values has 2 elements, but field Null has 1": {Columns: []encode.Column{{Name: "x", Values: encode.Texts{Values: []string{"a", "b"}, Null: []bool{true}}}}},
		"element 1 has the code 1, but there are 1":                   {Columns: []encode.Column{{Name: "x", Values: encode.Categorical{Codes: []int32{0, 1}, Categories: []any{"a"}}}}},
		"the index has 3 rows, but":                                   {Columns: []encode.Column{{Name: "x", Values: []int8{1}}}, Index: encode.Column{Values: encode.Range{Stop: 3, Step: 1}}},
		"index 3: its name is a int":                                  {Index: encode.Column{Name: 3, Values: []int8{1}}},
		"index [120]: its name is a []uint8":                          {Index: encode.Column{Name: []byte("x"), Values: encode.Range{Stop: 1, Step: 1}}},
		"column x: element 0 is not valid UTF-8":                      {Columns: []encode.Column{{Name: "x", Values: []any{"\xed\xa0\x80"}}}},
		"column y: element 1 is not valid UTF-8":                      {Columns: []encode.Column{{Name: "y", Values: encode.Texts{Values: []string{"", "\xed\xa0\x80"}}}}},
		"its name is not valid UTF-8":                                 {Columns: []encode.Column{{Name: "\xed\xa0\x80", Values: []int8{1}}}},
		`column x: unsupported time unit "D"`:                         {Columns: []encode.Column{{Name: "x", Values: encode.Times{Unit: "D", Counts: []int64{1}}}}},
		`column y: unsupported time unit "h"`:                         {Columns: []encode.Column{{Name: "y", Values: encode.Durations{Unit: "h", Counts: []int64{1}}}}},
		"column x: categories: ":                                      {Columns: []encode.Column{{Name: "x", Values: encode.Categorical{Codes: []int32{0}, Categories: []complex64{1}}}}},
	} {
		if _, err := pandasframe.Batch(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Batch: error = %v, want %s", err, want)
		}
	}
	for want, column := range map[string]struct {
		t    arrow.DataType
		json string
	}{
		"column a (int64): 1 values are null":             {arrow.PrimitiveTypes.Int64, `[{"a":1},{"a":null}]`},
		"column a (bool): 1 values are null":              {arrow.FixedWidthTypes.Boolean, `[{"a":null}]`},
		"column a (date32): pandas blocks do not support": {arrow.FixedWidthTypes.Date32, `[{"a":"2024-01-01"}]`},
		"pandas blocks do not support the type":           {arrow.ListOf(arrow.PrimitiveTypes.Int8), `[{"a":[1]}]`},
	} {
		schema := arrow.NewSchema([]arrow.Field{{Name: "a", Type: column.t, Nullable: true}}, nil)
		b, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(column.json))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pandasframe.Frame(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Frame: error = %v, want %s", err, want)
		}
	}
	for _, note := range []string{"x", `{"index_columns":["a","b"]}`, `{"index_columns":[{"start":"x"}]}`} {
		m := arrow.MetadataFrom(map[string]string{"pandas": note})
		b := array.NewRecordBatch(arrow.NewSchema(nil, &m), nil, 0)
		if d, err := pandasframe.Frame(b); err == nil {
			t.Errorf("Frame with the note %s = %v, want an error", note, d)
		}
	}
}

const script = `
import sys, numpy as np, pandas as pd, pyarrow as pa
from pandas.testing import assert_frame_equal
from partd import File, PandasBlocks
what, where = sys.argv[1:]
t = pd.date_range("2024-01-01", periods=4, freq="s", name="when")
f = pd.DataFrame({"when": [1, 2, 3, 4], "i": [1, 2, 3, 4], "x": [0.5, float("nan"), 2, 3], "s": ["a", None, "b", "c"], "t": t, "z": t.tz_localize("UTC").tz_convert("Europe/Paris"),
    "d": pd.to_timedelta([1, None, 2, 3], unit="s"), "c": pd.Categorical(["u", None, "v", "u"]), "b": [True, False, True, True]}, index=t)
p = PandasBlocks(File(where))
if what == "write":
    p.append({"k": f[:1]})
    p.append({"k": f[1:]})
else:
    same = lambda got: assert_frame_equal(got, pd.concat([f[:1], f[1:]]), check_freq=False)
    same(p.get("back"))
    with pa.ipc.open_stream(where + ".arrow") as r:
        same(r.read_all().to_pandas())
import importlib.util
print(*[m for m in ("blosc", "snappy") if importlib.util.find_spec(m)])
`

// TestPython converts Python's frames to batches, which pyarrow must read as the same pandas
// frames, and back to frames, which Python must read.
func TestPython(t *testing.T) {
	for _, peer := range []string{"python", "pandas3"} {
		t.Run(peer, func(t *testing.T) {
			python, dir, ctx := peers.Python(t, peer), filepath.Join(t.TempDir(), "store"), t.Context()
			run := func(what string) string {
				out, err := exec.Command(python, "-c", script, what, dir).CombinedOutput()
				if err != nil {
					t.Fatalf("the Python script failed: %v\n%s", err, out)
				}
				return string(out)
			}
			has := run("write")
			below, err := partd.OpenFile(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer below.Close()
			s := encode.New(below, pandasframe.Blocks(&encode.PandasOptions{Blosc: strings.Contains(has, "blosc"), Snappy: strings.Contains(has, "snappy")}))
			got, err := s.Get(ctx, "k")
			if err != nil {
				t.Fatal(err)
			}
			if n := got[0].NumRows(); n != 4 {
				t.Fatalf("got %d rows, want 4", n)
			}
			if err := s.Append(ctx, encode.Entry[arrow.RecordBatch]{Key: "back", Value: got[0]}); err != nil {
				t.Fatal(err)
			}
			file, err := os.Create(dir + ".arrow")
			if err != nil {
				t.Fatal(err)
			}
			w := ipc.NewWriter(file, ipc.WithSchema(got[0].Schema()))
			if err := w.Write(got[0]); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
			run("check")
		})
	}
}

func ExampleBlocks() {
	ctx := context.Background()
	store := encode.New(partd.NewDict(), pandasframe.Blocks(nil))
	schema := arrow.NewSchema([]arrow.Field{{Name: "city", Type: arrow.BinaryTypes.String}, {Name: "people", Type: arrow.PrimitiveTypes.Int64}}, nil)
	rows, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(`[{"city":"Paris","people":2103778},{"city":"Lyon","people":520774}]`))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := store.Append(ctx, encode.Entry[arrow.RecordBatch]{Key: "FR", Value: rows}); err != nil {
		fmt.Println(err)
		return
	}
	got, err := store.Get(ctx, "FR")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(got[0].NumRows(), got[0].Column(0), got[0].Column(1))
	// Output: 2 ["Paris" "Lyon"] [2103778 520774]
}
