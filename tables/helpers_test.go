package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

var numbers = arrow.NewSchema([]arrow.Field{
	{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

// rowsOf returns a reader of rows with the given numbers.
func rowsOf(ns ...int64) array.RecordReader {
	b := array.NewRecordBuilder(memory.DefaultAllocator, numbers)
	defer b.Release()
	for _, n := range ns {
		b.Field(0).(*array.Int64Builder).Append(n)
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprint("row ", n))
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	r, err := array.NewRecordReader(numbers, []arrow.RecordBatch{batch})
	if err != nil {
		panic(err)
	}
	return r
}

// sequence returns count consecutive numbers, starting with first.
func sequence(first, count int64) []int64 {
	ns := make([]int64, count)
	for i := range ns {
		ns[i] = first + int64(i)
	}
	return ns
}

// readAll returns the numbers that a scan yields.
func readAll(ctx context.Context, t *Table, o *ScanOptions) (ns []int64, err error) {
	r, err := t.Scan(ctx, o)
	if err != nil {
		return nil, err
	}
	defer r.Release()
	for r.Next() {
		b := r.RecordBatch()
		n := b.Column(b.Schema().FieldIndices("n")[0]).(*array.Int64)
		for i := range n.Len() {
			ns = append(ns, n.Value(i))
			if indices := b.Schema().FieldIndices("s"); len(indices) == 1 {
				if s := b.Column(indices[0]).(*array.String); s.Value(i) != fmt.Sprint("row ", n.Value(i)) {
					return nil, fmt.Errorf("row %d has the text %q", n.Value(i), s.Value(i))
				}
			}
		}
	}
	return ns, r.Err()
}

// read returns the sorted numbers of a table; ok is false if the table does not exist.
func read(ctx context.Context, b *Bucket, name string) (ns []int64, ok bool, err error) {
	ns, err = readAll(ctx, b.Table(name), nil)
	if errors.Is(err, ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	slices.Sort(ns)
	return ns, true, nil
}

func mustOpen(t testing.TB, dir string, o *Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustPut(t testing.TB, b *Bucket, name string, m PutMode, ns ...int64) Version {
	t.Helper()
	v, err := b.Table(name).Put(t.Context(), rowsOf(ns...), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func wantRows(t testing.TB, b *Bucket, name string, want ...int64) {
	t.Helper()
	got, ok, err := read(t.Context(), b, name)
	if err != nil || !ok || !slices.Equal(got, want) {
		t.Fatalf("table %q has rows %v (exists: %v, error: %v), want %v", name, got, ok, err, want)
	}
}

func oneBatch(batch arrow.RecordBatch) array.RecordReader {
	r, err := array.NewRecordReader(batch.Schema(), []arrow.RecordBatch{batch})
	if err != nil {
		panic(err)
	}
	return r
}
