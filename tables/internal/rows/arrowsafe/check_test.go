package arrowsafe

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// TestCheckLikeArrow checks that Check, which validates arrays in parts, accepts the damaged batches that Arrow's own
// validation accepts, and no others.
func TestCheckLikeArrow(t *testing.T) {
	union := []arrow.Field{{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}
	fields := append(allLayouts.Fields(),
		arrow.Field{Name: "dense union", Type: arrow.DenseUnionOf(union, []arrow.UnionTypeCode{0, 1})},
		arrow.Field{Name: "sparse union", Type: arrow.SparseUnionOf(union, []arrow.UnionTypeCode{0, 1})},
		arrow.Field{Name: "large list view", Type: arrow.LargeListViewOf(arrow.BinaryTypes.String), Nullable: true},
		arrow.Field{Name: "binary view", Type: arrow.BinaryTypes.BinaryView, Nullable: true})
	const seed = 1
	r, accepted, refused := rand.New(rand.NewPCG(seed, 0)), 0, 0
	for _, f := range fields {
		schema := arrow.NewSchema([]arrow.Field{f}, nil)
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		rows := strings.ReplaceAll(allLayoutRows, "},\n", "},")
		if strings.Contains(f.Name, "union") {
			rows = `[{"dense union": [0, 5], "sparse union": [0, 5]}, {"dense union": [1, "x"], "sparse union": [1, "x"]}, {"dense union": [0, 6], "sparse union": [0, 6]}]`
		}
		if strings.HasPrefix(f.Name, "large list view") || f.Name == "binary view" {
			rows = `[{"large list view": ["a", null], "binary view": "YWFhYWFhYWFhYWFhYWFhYWE="}, {}]`
		}
		if err := b.UnmarshalJSON([]byte(strings.TrimSpace(rows)[1 : len(strings.TrimSpace(rows))-1])); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		messages := messagesOf(t, streamOf(t, []arrow.RecordBatch{b.NewRecordBatch()}))
		for range 400 {
			damaged := append([]message(nil), messages...)
			last := &damaged[len(damaged)-1]
			last.body = bytes.Clone(last.body)
			for range 1 + r.IntN(3) {
				if len(last.body) > 0 {
					last.body[r.IntN(len(last.body))] ^= byte(1 << r.IntN(8))
				}
			}
			stream := joinMessages(damaged)
			in, err := NewReader(bytes.NewReader(stream), int64(len(stream)), 1<<20)
			if err != nil {
				continue
			}
			for in.Next() {
				want := validateLikeArrow(in.RecordBatch().Column(0))
				_, got := (&Checker{Limit: 1 << 40}).Check(t.Context(), in.RecordBatch())
				if (got == nil) != (want == nil) && (want == nil || !strings.Contains(want.Error(), "valid utf8")) { // texts of nulls are not read
					t.Errorf("seed %d, %s: Check returned %v, Arrow's validation %v", seed, f.Name, got, want)
				}
				if got == nil {
					accepted++
				} else {
					refused++
				}
			}
		}
	}
	if accepted < 500 || refused < 500 {
		t.Errorf("accepted %d damaged batches and refused %d, want at least 500 of each", accepted, refused)
	}
}

func validateLikeArrow(a arrow.Array) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("panic")
		}
	}()
	if a.DataType().ID() == arrow.NULL { // a stream omits the buffer that the validation requires
		return nil
	}
	return array.ValidateFull(a)
}

func textViews(n, size int) arrow.Array {
	b := array.NewStringViewBuilder(memory.DefaultAllocator)
	b.Append(strings.Repeat("é", size/2))
	one := b.NewArray().Data()
	header := memory.NewBufferBytes(bytes.Repeat(one.Buffers()[1].Bytes()[:arrow.ViewHeaderSizeBytes], n))
	return array.MakeFromData(array.NewData(arrow.BinaryTypes.StringView, n, append([]*memory.Buffer{nil, header}, one.Buffers()[2:]...), nil, 0, 0))
}

func int32Buffer(n int, value func(int) int32) *memory.Buffer {
	all := make([]int32, n)
	for i := range all {
		all[i] = value(i)
	}
	return memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(all))
}

func nest(dt arrow.DataType, n int, buffers []*memory.Buffer, children ...arrow.Array) arrow.Array {
	var data []arrow.ArrayData
	for _, c := range children {
		data = append(data, c.Data())
	}
	return array.MakeFromData(array.NewData(dt, n, buffers, data, 0, 0))
}

// TestSharedViews checks that Check quickly refuses batches whose values refer to far more bytes than the batch has,
// whatever contains these values.
func TestSharedViews(t *testing.T) {
	const n, limit, limitTime = 100_000, 1 << 20, 5 * time.Second // without the limit, most take far longer
	views := textViews(n, 1<<20)
	dt, zeros, ordinals := views.DataType(), int32Buffer(n+1, func(int) int32 { return 0 }), int32Buffer(n+1, func(i int) int32 { return int32(i) })
	codes := memory.NewBufferBytes(make([]byte, n))
	int32s := nest(arrow.PrimitiveTypes.Int32, n, []*memory.Buffer{nil, ordinals})
	ends := nest(arrow.PrimitiveTypes.Int32, n, []*memory.Buffer{nil, int32Buffer(n, func(i int) int32 { return int32(i + 1) })})
	union := []arrow.Field{{Name: "v", Type: dt}}
	entries := arrow.StructOf(arrow.Field{Name: "key", Type: arrow.PrimitiveTypes.Int32}, arrow.Field{Name: "value", Type: dt, Nullable: true})
	dictionary := func(values arrow.Array, indices *memory.Buffer) arrow.Array {
		dt := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: values.DataType()}
		return array.NewDictionaryArray(dt, nest(arrow.PrimitiveTypes.Int32, n, []*memory.Buffer{nil, indices}), values)
	}
	empty := nest(arrow.BinaryTypes.String, 1, []*memory.Buffer{nil, zeros, nil})
	wide, columns := []arrow.Field{}, []arrow.Array{}
	for range 20_000 {
		wide, columns = append(wide, arrow.Field{Name: "s", Type: arrow.BinaryTypes.String}), append(columns, empty)
	}
	long := nest(arrow.BinaryTypes.String, 1, []*memory.Buffer{nil, int32Buffer(2, func(i int) int32 { return int32(i) << 20 }), memory.NewBufferBytes(bytes.Repeat([]byte("x"), 1<<20))})
	longs := dictionary(long, zeros)
	for name, a := range map[string]arrow.Array{
		"texts":           views,
		"binary":          array.MakeFromData(array.NewData(arrow.BinaryTypes.BinaryView, n, views.Data().Buffers(), nil, 0, 0)),
		"struct":          nest(arrow.StructOf(union...), n, []*memory.Buffer{nil}, views),
		"list":            nest(arrow.ListOf(dt), n, []*memory.Buffer{nil, ordinals}, views),
		"map":             nest(arrow.MapOf(arrow.PrimitiveTypes.Int32, dt), n, []*memory.Buffer{nil, ordinals}, nest(entries, n, []*memory.Buffer{nil}, int32s, views)),
		"fixed-size list": nest(arrow.FixedSizeListOf(2, dt), n/2, []*memory.Buffer{nil}, views),
		"list view":       nest(arrow.ListViewOf(dt), n, []*memory.Buffer{nil, ordinals, int32Buffer(n, func(int) int32 { return 1 })}, views),
		"dictionary":      dictionary(views, ordinals),
		"one of a dictionary": array.NewDictionaryArray(&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: dt},
			nest(arrow.PrimitiveTypes.Int32, 1, []*memory.Buffer{nil, zeros}), views),
		"runs":              nest(arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, dt), n, []*memory.Buffer{nil}, ends, views),
		"sparse union":      nest(arrow.SparseUnionOf(union, []arrow.UnionTypeCode{0}), n, []*memory.Buffer{nil, codes}, views),
		"dense union":       nest(arrow.DenseUnionOf(union, []arrow.UnionTypeCode{0}), n, []*memory.Buffer{nil, codes, ordinals}, views),
		"empty fields":      dictionary(nest(arrow.StructOf(wide...), 1, []*memory.Buffer{nil}, columns...), zeros),
		"lists of a text":   dictionary(nest(arrow.ListOf(longs.DataType()), 1, []*memory.Buffer{nil, int32Buffer(2, func(i int) int32 { return int32(i * n) })}, longs), zeros),
		"overlapping lists": nest(arrow.ListViewOf(arrow.PrimitiveTypes.Int32), n, []*memory.Buffer{nil, zeros, int32Buffer(n, func(int) int32 { return n })}, int32s),
	} {
		b := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "x", Type: a.DataType(), Nullable: true}}, nil), []arrow.Array{a}, int64(a.Len()))
		start := time.Now()
		growth, err := (&Checker{Limit: limit}).Check(t.Context(), b)
		if took := time.Since(start); !errors.Is(err, partd.ErrTooLarge) || took > limitTime {
			t.Errorf("%s: Check = %d, %v after %v, want ErrTooLarge within %v", name, growth, err, took, limitTime)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Millisecond, func() { cancel(errors.New("stopped")) })
		start = time.Now()
		_, err = (&Checker{Limit: 1 << 60}).Check(ctx, b)
		if took := time.Since(start); took > limitTime || err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, partd.ErrTooLarge) {
			t.Errorf("%s: Check = %v after %v, want Canceled within %v", name, err, took, limitTime)
		}
	}
}

// TestNullViews checks that the meaningless lengths of null views do not reduce a batch's growth.
func TestNullViews(t *testing.T) {
	views := textViews(3, 1<<10)
	headers := views.Data().Buffers()[1].Bytes()
	copy(headers, []byte{0, 0, 0, 0x80}) // a negative length
	a := array.MakeFromData(array.NewData(views.DataType(), 3, append([]*memory.Buffer{memory.NewBufferBytes([]byte{6})}, views.Data().Buffers()[1:]...), nil, 1, 0))
	b := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "x", Type: a.DataType(), Nullable: true}}, nil), []arrow.Array{a}, 3)
	if growth, err := (&Checker{Limit: 1 << 20}).Check(t.Context(), b); growth < 2<<10 || err != nil {
		t.Errorf("Check of a null and two texts of 1 KiB = %d, %v, want at least 2048", growth, err)
	}
}

// TestEmptyBatches checks that batches without rows are accepted: run-end-encoded arrays, for which arrow-rs
// writes an empty run, and dense unions without buffers.
func TestEmptyBatches(t *testing.T) {
	runs := array.NewRunEndEncodedArray(array.NewInt32Data(array.NewData(arrow.PrimitiveTypes.Int32, 1, []*memory.Buffer{nil, memory.NewBufferBytes(make([]byte, 4))}, nil, 0, 0)),
		rowsOf(t, arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}}, nil), `[{"s": "x"}]`).Column(0), 0, 0)
	parts := must.Get(array.NewStructArray([]arrow.Array{runs}, []string{"r"}))(t)
	union := arrow.DenseUnionOf([]arrow.Field{{Name: "i", Type: arrow.PrimitiveTypes.Int8}}, []arrow.UnionTypeCode{0})
	none := array.MakeFromData(array.NewData(union, 0, []*memory.Buffer{nil, nil, nil}, []arrow.ArrayData{array.NewData(arrow.PrimitiveTypes.Int8, 0, []*memory.Buffer{nil, nil}, nil, 0, 0)}, 0, 0))
	for name, a := range map[string]arrow.Array{"runs": runs, "runs in a struct": parts, "union": none} {
		b := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "x", Type: a.DataType()}}, nil), []arrow.Array{a}, 0)
		if growth, err := (&Checker{Limit: 1}).Check(t.Context(), b); growth != 0 || err != nil {
			t.Errorf("Check of empty %s = %d, %v, want 0, nil", name, growth, err)
		}
	}
}

// TestGrowth checks the exact growth of a batch whose rows share values.
func TestGrowth(t *testing.T) {
	int32s := func(values ...int32) arrow.Array {
		b := int32Buffer(len(values), func(i int) int32 { return values[i] })
		return nest(arrow.PrimitiveTypes.Int32, len(values), []*memory.Buffer{nil, b})
	}
	const each = offsetSize + emptyValueSize + 4
	dt := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.PrimitiveTypes.Int32}
	runs := array.NewRunEndEncodedArray(int32s(2, 5), int32s(8, 9), 5, 0)
	for _, c := range []struct {
		column arrow.Array
		growth int64
	}{
		{array.NewDictionaryArray(dt, int32s(1, 2, 2), int32s(5, 6, 7)), 3 * each},
		{array.NewExtensionArrayWithStorage(extensions.NewOpaqueType(runs.DataType(), "a", "b"), runs), 5 * each},
	} {
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: c.column.DataType()}}, nil)
		b := array.NewRecordBatch(schema, []arrow.Array{c.column}, int64(c.column.Len()))
		if growth, err := (&Checker{Limit: 1000}).Check(t.Context(), b); growth != c.growth || err != nil {
			t.Errorf("Check of %v = %d, %v, want %d", c.column, growth, err, c.growth)
		}
	}
}

// TestSizeEstimateMemory checks that Check computes the memory that rows would need without using memory per
// row, because a few bytes of a message can describe millions of rows.
func TestSizeEstimateMemory(t *testing.T) {
	const rows = 8 << 20
	indices := array.NewInt8Data(array.NewData(arrow.PrimitiveTypes.Int8, rows, []*memory.Buffer{nil, memory.NewBufferBytes(make([]byte, rows))}, nil, 0, 0))
	value := rowsOf(t, arrow.NewSchema([]arrow.Field{{Name: "d", Type: arrow.BinaryTypes.String}, {Name: "i", Type: arrow.PrimitiveTypes.Int64}}, nil), `[{"d": "twelve bytes", "i": 1}]`)
	all := array.NewDictionaryArray(&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, indices, value.Column(0))
	offsets := memory.NewBufferBytes(arrow.Int32Traits.CastToBytes([]int32{0, rows}))
	list := array.NewListData(array.NewData(arrow.ListOf(arrow.PrimitiveTypes.Int8), 1, []*memory.Buffer{nil, offsets}, []arrow.ArrayData{indices.Data()}, 0, 0))
	nested := array.NewListData(array.NewData(arrow.ListOf(all.DataType()), 1, []*memory.Buffer{nil, offsets}, []arrow.ArrayData{all.Data()}, 0, 0))
	one := array.NewInt8Data(array.NewData(arrow.PrimitiveTypes.Int8, 1, []*memory.Buffer{nil, memory.NewBufferBytes(make([]byte, 1))}, nil, 0, 0))
	inDictionary := func(values arrow.Array) arrow.Array {
		return array.NewDictionaryArray(&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: values.DataType()}, one, values)
	}
	for name, c := range map[string]struct {
		column    arrow.Array
		minGrowth int64 // minimum growth; 0 if the batch must be refused
	}{"texts": {all, (4 + 12) * rows}, "a list": {inDictionary(list), rows}, "a list of texts": {inDictionary(nested), 0}} {
		b := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "d", Type: c.column.DataType()}}, nil), []arrow.Array{c.column}, int64(c.column.Len()))
		var growth int64
		var err error
		allocatedBytes := procs.Allocated(func() { growth, err = (&Checker{Limit: 1 << 40}).Check(t.Context(), b) })
		if allocatedBytes > 1<<20 || errors.Is(err, partd.ErrTooLarge) != (c.minGrowth == 0) || growth < c.minGrowth {
			t.Errorf("%s: Check of %d rows = %d, %v, and allocated %d KiB; want at least %d (0 means ErrTooLarge) and at most 1024 KiB", name, b.NumRows(), growth, err, allocatedBytes>>10, c.minGrowth)
		}
	}
}

// TestNullCount checks that Check refuses numbers of nulls that differ from the nulls of the array.
func TestNullCount(t *testing.T) {
	for nulls, valid := range map[int]bool{0: true, array.UnknownNullCount: true, 1: false, 4: false, -7: false, math.MinInt: false} {
		a := array.MakeFromData(array.NewData(arrow.PrimitiveTypes.Int8, 3, []*memory.Buffer{nil, memory.NewBufferBytes(make([]byte, 3))}, nil, nulls, 0))
		_, err := (&Checker{Limit: 1}).Check(t.Context(), array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "x", Type: a.DataType()}}, nil), []arrow.Array{a}, 3))
		if (err == nil) != valid {
			t.Errorf("an array that claims %d nulls: Check returned %v, want valid: %t", nulls, err, valid)
		}
	}
}

// TestLongText checks texts that are longer than the parts in which Check validates them.
func TestLongText(t *testing.T) {
	for shift := range 5 {
		for _, c := range []struct {
			text  string
			valid bool
		}{
			{strings.Repeat("x", shift) + strings.Repeat("€", 1<<18), true},
			{strings.Repeat("x", shift) + strings.Repeat("𝄞", 1<<18), true},
			{strings.Repeat("x", 1<<18-shift) + "\xe2\x82" + strings.Repeat("x", 1<<18), false},
			{strings.Repeat("x", shift) + strings.Repeat("\x80", 1<<19), false},
			{strings.Repeat("x", 1<<18) + "\x80", false},
		} {
			b := array.NewStringBuilder(memory.DefaultAllocator)
			b.Append(c.text)
			a := b.NewArray()
			_, err := (&Checker{Limit: 1}).Check(t.Context(), array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "x", Type: a.DataType()}}, nil), []arrow.Array{a}, 1))
			if (err == nil) != c.valid {
				t.Errorf("a text of %d bytes that starts with %.5q: Check returned %v, want valid: %t", len(c.text), c.text, err, c.valid)
			}
		}
	}
}

// TestDictionaryOnce checks that Check validates the texts of a dictionary once for a stream, and again if the stream
// replaces the dictionary.
func TestDictionaryOnce(t *testing.T) {
	dt := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: dt, Nullable: true}}, nil)
	batch := func(text string) arrow.RecordBatch {
		return rowsOf(t, schema, `[{"x": "`+text+`"}]`)
	}
	long := batch(strings.Repeat("x", 8<<20))
	c := Checker{Limit: 1 << 30}
	var first, next time.Duration
	for i := range 50 {
		start := time.Now()
		must.Get(c.Check(t.Context(), long))(t)
		if i == 0 {
			first = time.Since(start)
		} else {
			next += time.Since(start)
		}
	}
	if next > 10*first {
		t.Errorf("the first batch took %v, and 49 more with the same dictionary %v", first, next)
	}
	bad := batch("xx")
	copy(bad.Column(0).(*array.Dictionary).Dictionary().Data().Buffers()[2].Bytes(), "\xff\xff")
	if _, err := c.Check(t.Context(), bad); err == nil {
		t.Error("Check accepted a new dictionary with a text that is not valid UTF-8")
	}
}

// TestKnownTypes checks that the table of types and this package know the same types, so that a type that is added to
// the table is also checked here.
func TestKnownTypes(t *testing.T) {
	for id := arrow.NULL; id <= lastKnownType+5; id++ {
		if hasRow := arrowtype.ByID(id).Kind != arrowtype.None; hasRow != (id <= lastKnownType) {
			t.Errorf("type %d: it has a row: %v, but its layout is known: %v", id, hasRow, id <= lastKnownType)
		}
	}
}
