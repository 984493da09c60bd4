package parted_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/parted"
)

// class is a set of types with comparable values.
type class struct {
	types  []arrow.DataType
	values []string // values of all types; the same value can be written twice
	same   map[string]string
}

var (
	words   = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.BinaryTypes.String}
	classes = []class{
		{
			types:  []arrow.DataType{arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Uint64},
			values: []string{"0", "1", "2", "3", "64", "65", "126", "127"},
		},
		{
			types:  []arrow.DataType{arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64},
			values: []string{"0", "-0", "NaN", "0.5", "-0.5", "+Inf", "16777216"}, same: map[string]string{"-0": "0"},
		},
		{types: []arrow.DataType{arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.StringView, words}, values: []string{"", "a", "b", "a text of many bytes", "ab"}},
		{types: []arrow.DataType{arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Date64}, values: []string{"1969-12-31", "1970-01-01", "2026-11-29"}},
		{types: []arrow.DataType{&arrow.Decimal64Type{Precision: 5, Scale: 2}, &arrow.Decimal128Type{Precision: 30, Scale: 2}}, values: []string{"0.00", "-1.25", "1.25"}},
		{types: []arrow.DataType{arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Uint32}, values: manyNumbers()},
		{types: []arrow.DataType{arrow.FixedWidthTypes.Boolean}, values: []string{"true", "false"}},
	}
)

// manyNumbers returns so many values that several have the same bucket.
func manyNumbers() (values []string) {
	for i := range 600 {
		values = append(values, fmt.Sprint(i))
	}
	return values
}

// rows are the rows of an input in batches, and the key of each row.
type rows struct {
	schema  *arrow.Schema
	batches []arrow.RecordBatch
	keys    []string // of each row, by its value in the column n
}

// randomRows returns rows whose column n has numbers from 0. Further columns have keys of the given classes. If skewed is
// set, most rows have the same key.
func randomRows(t *testing.T, rnd *rand.Rand, keys []class, skewed bool, count int) *rows {
	t.Helper()
	fields := []arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}
	for i, c := range keys {
		fields = append(fields, arrow.Field{Name: fmt.Sprint("k", i), Type: c.types[rnd.IntN(len(c.types))], Nullable: true})
	}
	r := &rows{schema: arrow.NewSchema(fields, nil)}
	for len(r.keys) < count {
		b := array.NewRecordBuilder(memory.DefaultAllocator, r.schema)
		for range min(count-len(r.keys), 1+rnd.IntN(500)) {
			b.Field(0).(*array.Int64Builder).Append(int64(len(r.keys)))
			key := ""
			isHot := skewed && rnd.IntN(20) > 0
			for i, c := range keys {
				value := c.values[rnd.IntN(len(c.values))]
				switch {
				case isHot:
					value = c.values[0]
				case rnd.IntN(8) == 0:
					value = array.NullValueStr
				}
				must.Do(t, b.Field(1+i).AppendValueFromString(value))
				if other, ok := c.same[value]; ok {
					value = other
				}
				key += value + "|"
			}
			r.keys = append(r.keys, key)
		}
		r.batches = append(r.batches, b.NewRecordBatch())
	}
	return r
}

func (r *rows) input(t *testing.T, name string, by ...string) parted.Input {
	t.Helper()
	reader := must.Get(array.NewRecordReader(r.schema, r.batches))(t)
	return parted.Input{Name: name, Rows: reader, By: by}
}

// numbers returns the column n of a part's rows.
func numbers(ctx context.Context, in *parted.PartInput) (all []int, err error) {
	for b, err := range in.Read(ctx) {
		if err != nil {
			return nil, err
		}
		for _, n := range b.Column(0).(*array.Int64).Int64Values() {
			all = append(all, int(n))
		}
		b.Release()
	}
	return all, nil
}

// checkEmpty fails the test if a directory has files.
func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("the files %v are left; error %v", files, err)
	}
}

// TestEach compares the parts of random inputs with their rows: each row is in one part, in order within its key, and
// the rows of a key are in the same part of all inputs. A part exceeds its limit only if it has one key.
func TestEach(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	for round := range 60 {
		dir := t.TempDir()
		keys, by := []class{classes[rnd.IntN(len(classes))]}, []string{"k0"}
		if rnd.IntN(2) == 0 {
			keys, by = append(keys, classes[rnd.IntN(len(classes))]), append(by, "k1")
		}
		var all []*rows
		var inputs []parted.Input
		skewed := rnd.IntN(2) == 0
		for i := range 1 + rnd.IntN(3) {
			all = append(all, randomRows(t, rnd, keys, skewed && rnd.IntN(4) > 0, rnd.IntN(3000)))
			inputs = append(inputs, all[i].input(t, fmt.Sprint("input", i), by...))
		}
		o := parted.Options{Memory: 64 << 10 << rnd.IntN(8), Temp: dir}
		if rnd.IntN(2) == 0 {
			o.Parts = 1 + rnd.IntN(20)
		} else if rnd.IntN(2) == 0 {
			o.PartBytes = 1 << rnd.IntN(20)
		}
		parts, partOf := 0, map[string]int{}
		got := make([]map[int]bool, len(all))
		divides := rnd.IntN(2) == 0
		var f func(context.Context, *parted.Part) error
		f = func(ctx context.Context, p *parted.Part) error {
			if limit := p.Bytes() / int64(1+rnd.IntN(6)); divides && p.CanDivide() && rnd.IntN(4) > 0 {
				return p.Divide(ctx, limit, func(ctx context.Context, smaller *parted.Part) error {
					if smaller.Bytes() > limit && !smaller.OneKey {
						t.Errorf("a part of %d bytes was divided into parts of %d, want at most %d", p.Bytes(), smaller.Bytes(), limit)
					}
					return f(ctx, smaller)
				})
			}
			parts++
			keysOfPart, sum := map[string]bool{}, int64(0)
			for i := range p.Inputs {
				in := &p.Inputs[i]
				ns, err := numbers(ctx, in)
				if err != nil {
					return err
				}
				if int64(len(ns)) != in.Rows || (in.Bytes > 0) != (in.Rows > 0) {
					t.Errorf("Read yields %d rows, want %d of %d bytes", len(ns), in.Rows, in.Bytes)
				}
				last := map[string]int{}
				for _, n := range ns {
					key := all[i].keys[n]
					if other, ok := partOf[key]; ok && other != parts {
						t.Errorf("the key %s is in the parts %d and %d", key, other, parts)
					}
					if previous, ok := last[key]; got[i][n] || ok && previous >= n {
						t.Errorf("row %d is twice in the parts, or follows row %d of the same key", n, previous)
					}
					if got[i] == nil {
						got[i] = map[int]bool{}
					}
					got[i][n], partOf[key], last[key], keysOfPart[key] = true, parts, n, true
				}
				sum += in.Bytes
			}
			if sum != p.Bytes() || p.OneKey && len(keysOfPart) != 1 || p.OneKey != (p.Key != "") {
				t.Errorf("a part of %d bytes and %d keys has %d bytes, OneKey %v and Key %q", sum, len(keysOfPart), p.Bytes(), p.OneKey, p.Key)
			}
			if limit := cmp.Or(o.PartBytes, o.Memory/8); o.Parts == 0 && sum > limit && !p.OneKey {
				t.Errorf("a part of %d keys has %d bytes, want at most %d", len(keysOfPart), sum, limit)
			}
			return nil
		}
		err := parted.Each(t.Context(), inputs, &o, f)
		if err != nil {
			t.Fatalf("seed %d, round %d: %v", seed, round, err)
		}
		for i, r := range all {
			if len(got[i]) != len(r.keys) {
				t.Errorf("the parts have %d rows of input %d, want %d", len(got[i]), i, len(r.keys))
			}
		}
		if o.Parts > 0 && parts > o.Parts && !divides || parts == 0 {
			t.Errorf("%d parts, want 1 to %d", parts, o.Parts)
		}
		checkEmpty(t, dir)
		if t.Failed() {
			t.Fatalf("seed %d, round %d: %+v of %v", seed, round, o, inputs)
		}
	}
}

// TestCutAgain checks that parts are cut until each has one key, if no two keys fit in a part. Rows of a key that has
// most rows are together.
func TestCutAgain(t *testing.T) {
	columns := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "k", Type: arrow.PrimitiveTypes.Int64}, {Name: "word", Type: arrow.BinaryTypes.String}}, nil)
	const keys, hot, hotRows = 3000, 17, 20_000
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	add := func(k int) {
		b.Field(0).(*array.Int64Builder).Append(int64(b.Field(0).Len()))
		b.Field(1).(*array.Int64Builder).Append(int64(k))
		b.Field(2).(*array.StringBuilder).Append(fmt.Sprint("word of ", k, strings.Repeat(" é", 100)))
	}
	for k := range keys {
		add(k)
		for range hotRows / keys {
			add(hot)
		}
	}
	dir := t.TempDir()
	r := &rows{schema: columns, batches: []arrow.RecordBatch{b.NewRecordBatch()}}
	got := map[string]int64{}
	must.Do(t, parted.Each(t.Context(), []parted.Input{r.input(t, "in", "k", "word")}, &parted.Options{Memory: 1 << 20, PartBytes: 1, Temp: dir}, func(_ context.Context, p *parted.Part) error {
		if key, _, ok := strings.Cut(p.Key, ", "); ok && p.OneKey {
			got[key] += p.Inputs[0].Rows
		}
		if !strings.HasSuffix(p.Key, "…") || len(p.Key) > 130 || !utf8.ValidString(p.Key) {
			t.Errorf("the key is %q, want a valid text of at most 130 bytes that ends with …", p.Key)
		}
		return nil
	}))
	if len(got) != keys || got["k=17"] != hotRows/keys*keys+1 || got["k=18"] != 1 {
		t.Errorf("%d parts, of which that of the hot key has %d rows, want %d parts and %d rows", len(got), got["k=17"], keys, hotRows/keys*keys+1)
	}
	checkEmpty(t, dir)
}

// TestKeep reads and divides parts after the function that got them has returned.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	data := randomRows(t, rand.New(rand.NewPCG(1, 1)), classes[2:3], false, 3000)
	var want, got atomic.Int64
	var readers sync.WaitGroup
	want.Store(3000)
	f := func(_ context.Context, p *parted.Part) error {
		if !p.CanDivide() {
			got.Add(p.Inputs[0].Rows)
			return nil
		}
		release := p.Keep()
		readers.Go(func() {
			defer release()
			time.Sleep(10 * time.Millisecond)
			want.Add(p.Inputs[0].Rows)
			count := func(ctx context.Context, p *parted.Part) error {
				ns, err := numbers(ctx, &p.Inputs[0])
				got.Add(int64(len(ns)))
				return err
			}
			if err := errors.Join(count(t.Context(), p), p.Divide(t.Context(), p.Bytes()/2, count)); err != nil {
				t.Error(err)
			}
		})
		return nil
	}
	must.Do(t, parted.Each(t.Context(), []parted.Input{data.input(t, "in", "n")}, &parted.Options{Memory: 1 << 20, PartBytes: 8 << 10, Temp: dir}, f))
	if got.Load() != want.Load() || got.Load() == 3000 {
		t.Errorf("%d rows were read before Each returned, want %d", got.Load(), want.Load())
	}
	readers.Wait()
	checkEmpty(t, dir)
}

// TestEmpty checks that the function runs once if all inputs are empty.
func TestEmpty(t *testing.T) {
	for _, parts := range []int{0, 5} {
		calls := 0
		empty := randomRows(t, rand.New(rand.NewPCG(1, 1)), classes[:1], false, 0)
		inputs := []parted.Input{empty.input(t, "a", "k0"), empty.input(t, "b", "k0")}
		err := parted.Each(t.Context(), inputs, &parted.Options{Memory: 1 << 20, Parts: parts, Temp: "/no such directory"}, func(ctx context.Context, p *parted.Part) error {
			calls++
			ns, err := numbers(ctx, &p.Inputs[1])
			if len(ns) > 0 || err != nil || p.OneKey || p.Bytes() != 0 || len(p.Inputs) != 2 || !p.Inputs[1].Schema.HasField("k0") {
				t.Errorf("the part is %+v with rows %v; error %v", p, ns, err)
			}
			return nil
		})
		if err != nil || calls != 1 {
			t.Errorf("%d calls for empty inputs, error %v; want one", calls, err)
		}
	}
}

// TestRefused checks that columns that cannot be keys are refused by name.
func TestRefused(t *testing.T) {
	input := func(name string, by []string, types ...arrow.DataType) parted.Input {
		var fields []arrow.Field
		for i, dt := range types {
			fields = append(fields, arrow.Field{Name: fmt.Sprint("k", i), Type: dt})
		}
		return (&rows{schema: arrow.NewSchema(fields, nil)}).input(t, name, by...)
	}
	number, text, price := arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String, &arrow.Decimal128Type{Precision: 10, Scale: 2}
	for want, inputs := range map[string][]parted.Input{
		`input "l": no key columns are named`:                                                                                                            {input("l", nil, number)},
		`input "l": column "kay": the table has no such column`:                                                                                          {input("l", []string{"kay"}, number)},
		`input "r": the key has 1 columns ["k0"], but that of input "l" has 2: ["k0" "k1"]`:                                                              {input("l", []string{"k0", "k1"}, number, number), input("r", []string{"k0"}, number)},
		`input "l": column "k0" of type list<item: int64, nullable>: values of this type cannot be keys`:                                                 {input("l", []string{"k0"}, arrow.ListOf(number))},
		`input "r": column "k1" of type utf8 cannot be compared with column "k0" of input "l", which is of class integer`:                                {input("l", []string{"k0"}, number), input("r", []string{"k1"}, text, text)},
		`input "r": column "k0" of type decimal(10, 3) cannot be compared with column "k0" of input "l", which is of class decimal of scale 2`:           {input("l", []string{"k0"}, price), input("r", []string{"k0"}, &arrow.Decimal128Type{Precision: 10, Scale: 3})},
		`input "r": column "k0" of type timestamp[us, tz=UTC] cannot be compared with column "k0" of input "l", which is of class timestamp[ns, tz=UTC]`: {input("l", []string{"k0"}, arrow.FixedWidthTypes.Timestamp_ns), input("r", []string{"k0"}, arrow.FixedWidthTypes.Timestamp_us)},
	} {
		err := parted.Each(t.Context(), inputs, &parted.Options{Memory: 1 << 20}, func(context.Context, *parted.Part) error { return nil })
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	for _, parts := range []int{-1, 1 << 20} {
		err := parted.Each(t.Context(), []parted.Input{input("l", []string{"k0"}, number)}, &parted.Options{Memory: 1 << 20, Parts: parts}, func(context.Context, *parted.Part) error { return nil })
		if err == nil {
			t.Errorf("%d parts are not refused", parts)
		}
	}
}

// TestEachFails checks that an error of an input, of the function or of the context ends Each at once, and that no
// files are left.
func TestEachFails(t *testing.T) {
	broken := errors.New("broken")
	data := randomRows(t, rand.New(rand.NewPCG(1, 1)), classes[2:3], false, 3000)
	failing := data.input(t, "in", "k0")
	failing.Rows = array.ReaderFromIter(data.schema, func(yield func(arrow.RecordBatch, error) bool) {
		data.batches[0].Retain()
		if yield(data.batches[0], nil) {
			yield(nil, broken)
		}
	})
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	later, cancelLater := context.WithCancel(t.Context())
	for name, c := range map[string]struct {
		ctx   context.Context
		in    parted.Input
		f     func() error
		calls int
		want  error
		text  string
	}{
		"input":    {t.Context(), failing, func() error { return nil }, 0, broken, `input "in": broken`},
		"function": {t.Context(), data.input(t, "in", "k0"), func() error { return broken }, 1, broken, "broken"},
		"canceled": {canceled, data.input(t, "in", "k0"), func() error { return nil }, 0, context.Canceled, ""},
		"later":    {later, data.input(t, "in", "k0"), func() error { cancelLater(); return nil }, 1, context.Canceled, ""},
	} {
		dir, calls := t.TempDir(), 0
		err := parted.Each(c.ctx, []parted.Input{c.in}, &parted.Options{Memory: 1 << 20, PartBytes: 1 << 10, Temp: dir}, func(context.Context, *parted.Part) error {
			calls++
			return c.f()
		})
		if !errors.Is(err, c.want) || c.text != "" && err.Error() != c.text || calls != c.calls {
			t.Errorf("%s: error %v after %d calls, want %v after %d", name, err, calls, c.want, c.calls)
		}
		checkEmpty(t, dir)
	}
}

// TestSchema checks that parts have plain columns instead of dictionaries and views, and keep nested columns and
// metadata.
func TestSchema(t *testing.T) {
	metadata := arrow.NewMetadata([]string{"source"}, []string{"a test"})
	list := arrow.ListOf(arrow.BinaryTypes.StringView)
	columns := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "k", Type: words}, {Name: "v", Type: arrow.BinaryTypes.BinaryView}, {Name: "l", Type: list, Nullable: true}}, &metadata)
	b, _, err := array.RecordFromJSON(memory.DefaultAllocator, columns, strings.NewReader(`[{"n":1,"k":"x","v":"YWJj","l":["y",null]}]`))
	must.Do(t, err)
	r := &rows{schema: columns, batches: []arrow.RecordBatch{b}}
	must.Do(t, parted.Each(t.Context(), []parted.Input{r.input(t, "in", "k")}, &parted.Options{Memory: 1 << 20}, func(ctx context.Context, p *parted.Part) error {
		for b, err := range p.Inputs[0].Read(ctx) {
			if err != nil {
				return err
			}
			var types []string
			for _, f := range b.Schema().Fields() {
				types = append(types, f.Type.String())
			}
			if want := []string{"int64", "utf8", "binary", list.String()}; !slices.Equal(types, want) || b.Schema().Metadata().ToMap()["source"] != "a test" || !b.Schema().Equal(p.Inputs[0].Schema) {
				t.Errorf("the part has %v, want the types %v", b.Schema(), want)
			}
			if text := b.Column(3).ValueStr(0); text != `["y",null]` {
				t.Errorf("the list is %s", text)
			}
		}
		return nil
	}))
}
