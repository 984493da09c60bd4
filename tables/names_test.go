package tables

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/filter"
)

func TestInvalidPutOptions(t *testing.T) {
	b := mustOpen(t, t.TempDir(), nil).Bucket("")
	v := Version(1)
	for _, c := range []struct {
		mode PutMode
		o    *PutOptions
	}{{7, nil}, {PutAppend, &PutOptions{Over: &v}}} {
		_, err := b.Put(t.Context(), "t", rowsOf(1), c.mode, c.o)
		if !errors.As(err, new(*ArgumentError)) {
			t.Errorf("Put with mode %d and options %+v: error = %v, want an ArgumentError", c.mode, c.o, err)
		}
	}
}

// TestBucketsAsJSON checks the JSON encoding of Buckets, including the forms that older servers accept: null, and a
// single bucket as a string.
func TestBucketsAsJSON(t *testing.T) {
	for _, c := range []struct {
		buckets Buckets
		text    string
	}{{nil, `null`}, {Buckets{""}, `""`}, {Buckets{"NYSE"}, `"NYSE"`}, {Buckets{"NYSE", ""}, `["NYSE",""]`}} {
		text, err := json.Marshal(c.buckets)
		if err != nil || string(text) != c.text {
			t.Errorf("Marshal(%q) = %s, %v, want %s", []string(c.buckets), text, err, c.text)
		}
		var o MaintainOptions
		if err := json.Unmarshal([]byte(`{"bucket":`+c.text+`}`), &o); err != nil || !slices.Equal(o.Buckets, c.buckets) {
			t.Errorf("Unmarshal(%s) = %q, %v, want %q", c.text, []string(o.Buckets), err, []string(c.buckets))
		}
	}
	if err := new(Buckets).UnmarshalJSON([]byte(`7`)); err == nil {
		t.Error("UnmarshalJSON of a number succeeded, want an error")
	}
}

func TestFoldOfSeveralBuckets(t *testing.T) {
	s := mustOpen(t, t.TempDir(), nil)
	for _, name := range []string{"a", "b", "c"} {
		mustPut(t, s.Bucket(name), "t", PutAppend, 1, 2)
	}
	r, err := s.Fold(t.Context(), &MaintainOptions{Buckets: Buckets{"a", "c"}})
	if err != nil || r.Tables != 2 || r.Rows != 4 {
		t.Fatalf("Fold = %+v, %v; want Tables 2 and Rows 4", r, err)
	}
	if _, err := s.Fold(t.Context(), &MaintainOptions{Buckets: Buckets{"a", "c"}, Tables: []string{"t"}}); err == nil {
		t.Error("Fold of a table in two buckets succeeded, want an error")
	}
	r, err = s.Fold(t.Context(), nil)
	if err != nil || r.Tables != 1 {
		t.Fatalf("Fold = %+v, %v; want Tables 1", r, err)
	}
}

func TestColumnTypes(t *testing.T) {
	b := mustOpen(t, t.TempDir(), nil).Bucket("")
	mustPut(t, b, "t", PutAppend, 1)
	want := []arrow.DataType{
		arrow.PrimitiveTypes.Uint8, arrow.FixedWidthTypes.Timestamp_ns, &arrow.TimestampType{Unit: arrow.Second},
		&arrow.Decimal128Type{Precision: 18, Scale: 2}, arrow.FixedWidthTypes.Date32, arrow.BinaryTypes.LargeString,
	}
	var changes []ColumnChange
	for i, typ := range want {
		changes = append(changes, ColumnChange{Op: AddColumn, Column: string(rune('A' + i)), Type: ColumnTypeOf(typ)})
	}
	if err := b.Evolve(t.Context(), "t", changes...); err != nil {
		t.Fatal(err)
	}
	table, err := b.Table(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := table.Schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, typ := range want {
		if f, _ := schema.FieldsByName(string(rune('A' + i))); len(f) != 1 || !arrow.TypeEqual(f[0].Type, typ) {
			t.Errorf("added column is %v, want type %s", f, typ)
		}
	}
}

// TestReplaceRangeTimeColumn checks that the result of ReplaceRange names the time column, in a table with
// two timestamp columns.
func TestReplaceRangeTimeColumn(t *testing.T) {
	b := mustOpen(t, t.TempDir(), nil).Bucket("")
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "created", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true}, {Name: "at", Type: arrow.FixedWidthTypes.Timestamp_us},
	}, nil)
	rows := func() array.RecordReader {
		build := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		defer build.Release()
		build.Field(0).AppendNull()
		build.Field(1).(*array.TimestampBuilder).AppendTime(day0)
		return oneBatch(build.NewRecordBatch())
	}
	if _, err := b.Put(t.Context(), "t", rows(), PutAppend, &PutOptions{Settings: &Settings{Time: "at"}}); err != nil {
		t.Fatal(err)
	}
	result, err := b.ReplaceRange(t.Context(), "t", day0, day0.Add(1), rows(), nil)
	if err != nil || result.TimeColumn != "at" || result.Deleted != 1 {
		t.Errorf(`ReplaceRange = %+v, %v; want TimeColumn "at" and Deleted 1`, result, err)
	}
	if result, err = b.DeleteRows(t.Context(), "t", filter.IsNull("created")); err != nil || result.TimeColumn != "" {
		t.Errorf(`DeleteRows = %+v, %v; want TimeColumn ""`, result, err)
	}
}
