package transform_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/tablestest"
	"github.com/go-partd/partd/tables/transform"
)

func newEngine(t testing.TB) *duck.Engine {
	engine := must.Get(duck.New(&duck.Options{TempDir: t.TempDir()}))(t)
	t.Cleanup(func() { must.Do(t, engine.Close()) })
	return engine
}

// needSQL skips the test if the program was built without DuckDB.
func needSQL(t testing.TB, s *tables.Store) {
	if _, err := s.Describe(t.Context(), "SELECT 1", nil); errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
}

func newStore(t testing.TB) *tables.Store {
	t.Helper()
	s := openStore(t, newEngine(t))
	needSQL(t, s)
	return s
}

// withoutSQL returns a store without an engine.
func withoutSQL(t testing.TB) *tables.Store { return openStore(t, nil) }

func openStore(t testing.TB, engine tables.Engine) *tables.Store {
	t.Helper()
	return tablestest.Open(t, &tables.Options{Engine: engine, FoldAge: -1})
}

// seedAndRounds returns the seed and the number of rounds of a random test. PARTD_RESAMPLE_SEED and
// PARTD_RESAMPLE_ROUNDS set them.
func seedAndRounds(t *testing.T) (seed uint64, rounds int) {
	t.Helper()
	seed, rounds = uint64(time.Now().UnixNano()), 1
	if n, err := strconv.ParseUint(os.Getenv("PARTD_RESAMPLE_SEED"), 10, 64); err == nil {
		seed = n
	}
	if n, err := strconv.Atoi(os.Getenv("PARTD_RESAMPLE_ROUNDS")); err == nil {
		rounds = n
	}
	t.Logf("PARTD_RESAMPLE_SEED=%d", seed)
	return seed, rounds
}

func put(t testing.TB, s *tables.Store, name string, m tables.PutMode, batches ...arrow.RecordBatch) {
	t.Helper()
	putWith(t, s, name, m, nil, batches...)
}

// byTime are the options for a put into a table with a time column in its settings.
var byTime = &tables.PutOptions{Settings: &tables.Settings{Time: "t"}}

func putWith(t testing.TB, s *tables.Store, name string, m tables.PutMode, o *tables.PutOptions, batches ...arrow.RecordBatch) {
	t.Helper()
	r := must.Get(array.NewRecordReader(batches[0].Schema(), batches))(t)
	defer r.Release()
	must.Get(s.Bucket("").Table(name).Put(t.Context(), r, m, o))(t)
}

func scan(t testing.TB, s *tables.Store, name string) (*arrow.Schema, []arrow.RecordBatch) {
	t.Helper()
	r := must.Get(s.Bucket("").Table(name).Scan(t.Context(), nil))(t)
	defer r.Release()
	var batches []arrow.RecordBatch
	for r.Next() {
		r.RecordBatch().Retain()
		batches = append(batches, r.RecordBatch())
	}
	must.Do(t, r.Err())
	return r.Schema(), batches
}

// TestNilOptions checks that nil options, which name no table, cause an error.
func TestNilOptions(t *testing.T) {
	s := tablestest.Open(t, nil)
	for name, err := range map[string]error{
		"clean":    errorOf(transform.Clean(t.Context(), s, nil)),
		"combine":  errorOf(transform.Combine(t.Context(), s, nil)),
		"resample": errorOf(transform.Resample(t.Context(), s, nil)),
	} {
		if err == nil {
			t.Errorf("%s with nil options returned no error", name)
		}
	}
}

func errorOf(_ transform.Result, err error) error { return err }

// categories returns rows with a column of ordered categories, one row per second.
func categories(t *testing.T, start int64, values string, indices ...int32) array.RecordReader {
	t.Helper()
	dictionary := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String, Ordered: true}
	schema := arrow.NewSchema([]arrow.Field{timeField(arrow.Second, ""), {Name: "c", Type: dictionary, Nullable: true}}, nil)
	words, indexBuilder, times := array.NewStringBuilder(memory.DefaultAllocator), array.NewInt32Builder(memory.DefaultAllocator), array.NewTimestampBuilder(memory.DefaultAllocator, &arrow.TimestampType{Unit: arrow.Second})
	for _, w := range strings.Fields(values) {
		switch w {
		case "null":
			words.AppendNull()
		case "empty":
			words.Append("")
		default:
			words.Append(w)
		}
	}
	indexBuilder.AppendValues(indices, nil)
	for i := range indices {
		times.Append(arrow.Timestamp(start + int64(i)))
	}
	b := array.NewRecordBatch(schema, []arrow.Array{times.NewArray(), array.NewDictionaryArray(dictionary, indexBuilder.NewArray(), words.NewArray())}, int64(len(indices)))
	return must.Get(array.NewRecordReader(schema, []arrow.RecordBatch{b}))(t)
}

// TestCategories checks scans and resampling of dictionaries that contain a value twice, contain a null, or
// lack the values of a later put.
func TestCategories(t *testing.T) {
	for name, c := range map[string]struct {
		firstCategories, laterCategories string // separated by spaces
		firstIndexes, laterIndexes       []int32
		all, min, max                    string // "" means an error
	}{
		"new in a later put":           {"low high", "high mid low", []int32{1, 0}, []int32{0, 1, 2, 1}, "high,low,high,mid,low,mid", "", ""},
		"no categories at first":       {"", "b a", nil, []int32{0, 1}, "b,a", "", ""},
		"another order in a later put": {"low high", "high low", []int32{1, 0}, []int32{0, 1, 1, 0}, "high,low,high,low,low,high", "low,low,low", "high,high,high"},
		"a duplicate":                  {"a b a", "b a", []int32{0, 1, 2, 2}, []int32{0, 1}, "a,b,a,a,b,a", "a,a,a", "b,a,b"},
		"a duplicate, then new ones":   {"a b a", "c d", []int32{0, 1, 2, 1}, []int32{0, 1}, "a,b,a,b,c,d", "", ""},
		"a null":                       {"a null b", "b empty", []int32{0, 1, 2, 2}, []int32{0, 0}, "a,(null),b,b,b,b", "a,b,b", "a,b,b"},
		"an empty text":                {"a null", "empty c", []int32{0, 1}, []int32{0, 1}, "a,(null),,c", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			b := s.Bucket("")
			must.Get(b.Table("in").Put(t.Context(), categories(t, 0, c.firstCategories, c.firstIndexes...), tables.PutReplace, nil))(t)
			must.Get(b.Table("in").Put(t.Context(), categories(t, int64(len(c.firstIndexes)), c.laterCategories, c.laterIndexes...), tables.PutAppend, nil))(t)
			readAll := func(table string) string {
				r := must.Get(b.Table(table).Scan(t.Context(), &tables.ScanOptions{Dictionaries: true, Columns: []string{"c"}}))(t)
				defer r.Release()
				var out []string
				for r.Next() {
					d := r.RecordBatch().Column(0).(*array.Dictionary)
					for i := range d.Len() {
						text := "(null)"
						if d.IsValid(i) && d.Dictionary().IsValid(d.GetValueIndex(i)) {
							text = d.Dictionary().(*array.String).Value(d.GetValueIndex(i))
						}
						out = append(out, text)
					}
				}
				must.Do(t, r.Err())
				return strings.Join(out, ",")
			}
			if got := readAll("in"); got != c.all {
				t.Errorf("read %q, want %q", got, c.all)
			}
			for function, want := range map[string]string{"min": c.min, "max": c.max} {
				o := &transform.ResampleOptions{Source: tableName("in"), Target: tableName("out"), Rule: "2s", TimeColumn: "t", Functions: []string{function}, Mode: tables.PutReplace}
				_, err := transform.Resample(t.Context(), s, o)
				if want == "" {
					must.Fail(t, err, "column c: a later put added the value", "%s", function)
					continue
				}
				must.Do(t, err)
				if got := readAll("out"); got != want {
					t.Errorf("%s = %q, want %q", function, got, want)
				}
			}
		})
	}
}
