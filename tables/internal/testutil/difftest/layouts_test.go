package difftest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

// maxUnusual is the maximum length of an array that gets an unusual layout. Longer arrays keep their
// layout, because the copy is made value by value.
const maxUnusual = 300

// unusualLayout returns an array with the same values in another layout that Arrow allows. There may be
// values under nulls, before the first row and after the last row; null, unused or repeated entries in
// dictionaries; and an unknown number of nulls.
func unusualLayout(r *rand.Rand, a arrow.Array) arrow.Array {
	if a.Len() == 0 || a.Len() > maxUnusual {
		return a
	}
	switch x := a.(type) {
	case array.ExtensionArray:
		return array.NewExtensionArrayWithStorage(a.DataType().(arrow.ExtensionType), unusualLayout(r, x.Storage()))
	case *array.Null, *array.RunEndEncoded:
		return addPadding(r, a)
	case *array.Dictionary:
		a = unusualDictionary(r, x)
	case *array.List, *array.LargeList, *array.Map:
		a = unusualLists(r, a.(array.ListLike))
	case *array.FixedSizeList:
		n := int(x.DataType().(*arrow.FixedSizeListType).Len())
		var values []int
		for i := range a.Len() {
			start, _ := x.ValueOffsets(i)
			for j := range n {
				values = append(values, int(start)+j)
				if a.IsNull(i) {
					values[len(values)-1] = r.IntN(x.ListValues().Len()+1) - 1
				}
			}
		}
		a = withValues(r, a, nil, unusualLayout(r, pickRows(x.ListValues(), values)))
	case *array.Struct:
		fields := make([]arrow.Array, x.NumField())
		for f := range fields {
			rows := make([]int, a.Len())
			for i := range rows {
				if rows[i] = i; a.IsNull(i) {
					rows[i] = r.IntN(a.Len()+1) - 1
				}
			}
			fields[f] = unusualLayout(r, pickRows(x.Field(f), rows))
		}
		a = withValues(r, a, nil, fields...)
	case *array.String, *array.Binary:
		a = unusualTexts[int32](r, a)
	case *array.LargeString, *array.LargeBinary:
		a = unusualTexts[int64](r, a)
	default:
		if t, ok := a.DataType().(arrow.FixedWidthDataType); ok && t.BitWidth()%8 == 0 {
			width, offset := t.BitWidth()/8, a.Data().Offset()
			values := bytes.Clone(a.Data().Buffers()[1].Bytes()[offset*width:][:a.Len()*width])
			for i := range a.Len() {
				if a.IsNull(i) {
					copy(values[i*width:], bytes.Repeat([]byte{0xff}, width))
				}
			}
			a = withValues(r, a, [][]byte{values})
		}
	}
	return addPadding(r, a)
}

// withValues returns an array with the type and nulls of a, and with the given values and children.
func withValues(r *rand.Rand, a arrow.Array, values [][]byte, children ...arrow.Array) arrow.Array {
	var bits *memory.Buffer
	nulls := a.NullN()
	if nulls > 0 || r.IntN(2) == 0 {
		bits = memory.NewBufferBytes(make([]byte, bitutil.BytesForBits(int64(a.Len()))))
		for i := range a.Len() {
			bitutil.SetBitTo(bits.Bytes(), i, a.IsValid(i))
		}
		if nulls > 0 { // the library refuses a map's keys if their number of nulls is unknown
			nulls = pick(r, nulls, array.UnknownNullCount)
		}
	}
	buffers := []*memory.Buffer{bits}
	for _, v := range values {
		buffers = append(buffers, memory.NewBufferBytes(v))
	}
	var parts []arrow.ArrayData
	for _, child := range children {
		parts = append(parts, child.Data())
	}
	return array.MakeFromData(array.NewData(a.DataType(), a.Len(), buffers, parts, nulls, 0))
}

// pickRows returns the values of an array at indices, with null for index -1.
func pickRows(a arrow.Array, indices []int) arrow.Array {
	if len(indices) == 0 {
		return array.NewSlice(a, 0, 0)
	}
	var all []arrow.Array
	for _, i := range indices {
		if i < 0 {
			all = append(all, array.MakeArrayOfNull(alloc, a.DataType(), 1))
		} else {
			all = append(all, array.NewSlice(a, int64(i), int64(i+1)))
		}
	}
	return concatenate(all...)
}

// canConcatenate reports whether Arrow's library can concatenate slices and nulls of a type (arrow-go 18.8).
func canConcatenate(t arrow.DataType) bool {
	if nested, ok := t.(arrow.NestedType); ok && t.ID() != arrow.RUN_END_ENCODED {
		return !slices.ContainsFunc(nested.Fields(), func(f arrow.Field) bool { return !canConcatenate(f.Type) })
	}
	views := t.ID() == arrow.STRING_VIEW || t.ID() == arrow.BINARY_VIEW // views would keep the buffers of every slice
	return t.ID() != arrow.RUN_END_ENCODED && t.ID() != arrow.NULL && t.ID() != arrow.DICTIONARY && !views
}

func concatenate(all ...arrow.Array) arrow.Array {
	if t := all[0].DataType(); !canConcatenate(t) {
		b := array.NewBuilder(alloc, t)
		for _, a := range all {
			for i := range a.Len() {
				appendValue(b, readValue(a, i))
			}
		}
		return b.NewArray()
	}
	result, err := array.Concatenate(all, alloc)
	if err != nil {
		panic(fmt.Sprint(all[0].DataType(), err))
	}
	return result
}

func addPadding(r *rand.Rand, a arrow.Array) arrow.Array {
	before, after := int64(r.IntN(min(a.Len(), 9)+1)), int64(r.IntN(min(a.Len(), 9)+1))
	padded := concatenate(array.NewSlice(a, 0, before), a, array.NewSlice(a, 0, after))
	return array.NewSlice(padded, before, before+int64(a.Len()))
}

func unusualDictionary(r *rand.Rand, a *array.Dictionary) arrow.Array {
	n := a.Dictionary().Len()
	indices := []int{-1}
	for i := range 2 * n {
		indices = append(indices, i%n)
	}
	b := array.NewInt16Builder(alloc)
	for i := range a.Len() {
		switch {
		case a.IsValid(i):
			b.Append(int16(1 + a.GetValueIndex(i) + n*r.IntN(2)))
		case r.IntN(2) == 0:
			b.Append(0)
		default:
			b.AppendNull()
		}
	}
	return array.NewDictionaryArray(a.DataType(), b.NewArray(), unusualLayout(r, pickRows(a.Dictionary(), indices)))
}

func unusualLists(r *rand.Rand, a array.ListLike) arrow.Array {
	values := a.ListValues()
	var indices []int
	addUnused := func() {
		for range r.IntN(3) {
			index := r.IntN(values.Len()+1) - 1
			if a.DataType().ID() == arrow.MAP { // the library rejects null keys, even unused ones
				index = max(index, 0)
			}
			if index < values.Len() {
				indices = append(indices, index)
			}
		}
	}
	addUnused()
	offsets := []int64{int64(len(indices))}
	for i := range a.Len() {
		if a.IsNull(i) {
			addUnused()
		} else {
			for start, to := a.ValueOffsets(i); start < to; start++ {
				indices = append(indices, int(start))
			}
		}
		offsets = append(offsets, int64(len(indices)))
	}
	addUnused()
	raw := arrow.GetBytes(offsets)
	if a.DataType().ID() != arrow.LARGE_LIST {
		offsets32 := make([]int32, len(offsets))
		for i, offset := range offsets {
			offsets32[i] = int32(offset)
		}
		raw = arrow.GetBytes(offsets32)
	}
	child := pickRows(values, indices)
	if entries, ok := child.(*array.Struct); ok && a.DataType().ID() == arrow.MAP { // a map's entries must begin at 0 (arrow-go 18.8)
		child = withValues(r, entries, nil, unusualLayout(r, entries.Field(0)), unusualLayout(r, entries.Field(1)))
	} else {
		child = unusualLayout(r, child)
	}
	return withValues(r, a, [][]byte{raw}, child)
}

// unusualTexts puts bytes under nulls, and before and after the values.
func unusualTexts[T int32 | int64](r *rand.Rand, a arrow.Array) arrow.Array {
	text := []byte(pick(r, "", "before"))
	offsets := []T{T(len(text))}
	for i := range a.Len() {
		switch {
		case a.IsNull(i):
			text = append(text, pick(r, "", "hidden")...)
		case a.DataType().ID() == arrow.STRING || a.DataType().ID() == arrow.LARGE_STRING:
			text = append(text, a.(array.StringLike).Value(i)...)
		default:
			text = append(text, a.(interface{ Value(int) []byte }).Value(i)...)
		}
		offsets = append(offsets, T(len(text)))
	}
	text = append(text, pick(r, "", "after")...)
	return withValues(r, a, [][]byte{arrow.GetBytes(offsets), text})
}

// nestingTypes returns a type, and nested types that contain it.
func nestingTypes(t arrow.DataType) []arrow.DataType {
	field := func(name string, t arrow.DataType, nullable bool) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: nullable || t.ID() == arrow.NULL}
	}
	list := arrow.ListOfField(field("item", t, true))
	strict := arrow.ListOfField(field("item", t, false))
	return []arrow.DataType{
		t, list, strict, arrow.LargeListOfField(field("item", t, true)), arrow.FixedSizeListOfField(2, field("item", t, true)), arrow.FixedSizeListOfField(2, field("item", t, false)),
		arrow.MapOf(arrow.BinaryTypes.String, t), arrow.MapOf(arrow.PrimitiveTypes.Int32, list),
		arrow.StructOf(field("a", t, true), field("b", t, false)), arrow.StructOf(field("a", list, true), field("b", strict, false)),
		arrow.StructOf(field("s", arrow.StructOf(field("l", list, true), field("t", t, false)), false), field("u", arrow.StructOf(field("l", strict, false)), true)),
		arrow.ListOf(list), arrow.ListOf(strict), arrow.ListOfField(field("item", strict, false)), arrow.ListOf(arrow.StructOf(field("l", list, true), field("t", t, false))),
		arrow.FixedSizeListOf(2, list), arrow.ListOf(arrow.FixedSizeListOfField(2, field("item", t, false))), arrow.StructOf(field("f", arrow.FixedSizeListOf(2, list), false)),
		arrow.LargeListOf(arrow.MapOf(arrow.BinaryTypes.String, arrow.StructOf(field("l", list, true)))),
	}
}

// TestUnusualArrays checks that arrays in unusual but valid layouts are read unchanged, before and after a fold.
func TestUnusualArrays(t *testing.T) {
	const rows = 16
	for _, noTail := range []bool{false, true} {
		s := must.Get(tables.Open(t.Context(), t.TempDir(), &tables.Options{FoldAge: -1, NoTail: noTail}))(t)
		t.Cleanup(func() { _ = s.Close() })
		for w := range nestingTypes(arrow.Null) {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			var fields []arrow.Field
			var columns []arrow.Array
			for i, leaf := range plainTypes(r) {
				f := arrow.Field{Name: fmt.Sprint("c", i), Type: nestingTypes(leaf)[w], Nullable: true}
				b := array.NewBuilder(alloc, f.Type)
				for range rows {
					appendValue(b, randomValue(r, f.Type, true))
				}
				normal := b.NewArray()
				a := unusualLayout(r, normal)
				if err := array.ValidateFull(a); err != nil && leaf.ID() != arrow.NULL && leaf.ID() != arrow.RUN_END_ENCODED { // the library expects buffers that these types do not have
					t.Fatalf("the unusual array of type %s is invalid: %v", f.Type, err)
				}
				for i := range rows {
					if got, want := canonicalText(readValue(a, i)), canonicalText(readValue(normal, i)); got != want {
						t.Fatalf("%s: row %d is %s, want %s", f.Type, i, got, want)
					}
				}
				fields, columns = append(fields, f), append(columns, a)
			}
			name := fmt.Sprint("t", w)
			put := func(columns []arrow.Array, from, to int64) {
				batch := array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, rows)
				reader, err := array.NewRecordReader(batch.Schema(), []arrow.RecordBatch{batch.NewSlice(from, to)})
				if err == nil {
					_, err = s.Bucket("b").Table(name).Put(t.Context(), reader, tables.PutAppend, nil)
				}
				if err != nil {
					t.Errorf("put into %s: %v", name, err)
				}
			}
			var want []string
			for i := range rows {
				var text strings.Builder
				for _, c := range columns {
					text.WriteString(canonicalText(readValue(c, i)) + "|")
				}
				want = append(want, text.String())
			}
			put(columns, 0, rows)
			put(columns, 3, 9)
			want = slices.Concat(want, want[3:9])
			for _, folded := range []bool{false, true} {
				if folded {
					if _, err := s.Fold(t.Context(), nil); err != nil {
						t.Errorf("fold %s: %v", fields[6].Type, err)
						must.Do(t, s.Bucket("b").Delete(t.Context(), name)) // a fold of all tables would fail again because of this one
						break
					}
				}
				reader, err := s.Bucket("b").Table(name).Scan(t.Context(), nil)
				got, err := readAll(reader, err, nil)
				if err != nil || len(got) != len(want) {
					t.Fatalf("%s, folded %v: got %d rows, error %v, want %d rows", fields[6].Type, folded, len(got), err, len(want))
				}
				for i := range want {
					a, b := strings.Split(got[i], "|"), strings.Split(want[i], "|")
					for c := range fields {
						if a[c] != b[c] {
							t.Errorf("%s, folded %v, row %d: got %s, want %s", fields[c].Type, folded, i, a[c], b[c])
						}
					}
				}
			}
		}
	}
}
