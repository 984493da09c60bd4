// Package tabletest opens, fills, reads and damages stores of tables, for tests.
package tabletest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
)

var Numbers = arrow.NewSchema([]arrow.Field{
	{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

// Rows returns a reader of rows with the given numbers.
func Rows(ns ...int64) array.RecordReader {
	b := array.NewRecordBuilder(memory.DefaultAllocator, Numbers)
	defer b.Release()
	for _, n := range ns {
		b.Field(0).(*array.Int64Builder).Append(n)
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprint("row ", n))
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	r, err := array.NewRecordReader(Numbers, []arrow.RecordBatch{batch})
	if err != nil {
		panic(err)
	}
	return r
}

// Sequence returns count consecutive numbers, starting with first.
func Sequence(first, count int64) []int64 {
	ns := make([]int64, count)
	for i := range ns {
		ns[i] = first + int64(i)
	}
	return ns
}

// ReadAll returns the numbers that a scan yields.
func ReadAll(ctx context.Context, t *tables.Table, o *tables.ScanOptions) (ns []int64, err error) {
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

// Read returns the sorted numbers of a table; ok is false if the table does not exist.
func Read(ctx context.Context, b *tables.Bucket, name string) (ns []int64, ok bool, err error) {
	ns, err = ReadAll(ctx, b.Table(name), nil)
	if errors.Is(err, tables.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	slices.Sort(ns)
	return ns, true, nil
}

func Open(t testing.TB, dir string, o *tables.Options) *tables.Store {
	t.Helper()
	s, err := tables.Open(t.Context(), dir, o)
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

func Put(t testing.TB, b *tables.Bucket, name string, m tables.PutMode, ns ...int64) tables.Version {
	t.Helper()
	v, err := b.Table(name).Put(t.Context(), Rows(ns...), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func WantRows(t testing.TB, b *tables.Bucket, name string, want ...int64) {
	t.Helper()
	got, ok, err := Read(t.Context(), b, name)
	if err != nil || !ok || !slices.Equal(got, want) {
		t.Fatalf("table %q has rows %v (exists: %v, error: %v), want %v", name, got, ok, err, want)
	}
}

// WantCount checks the number of a table's rows.
func WantCount(t testing.TB, table *tables.Table, want int64) {
	t.Helper()
	if info, err := table.Info(t.Context()); err != nil || info.Rows != want {
		t.Errorf("the table has %d rows, error %v; want %d", info.Rows, err, want)
	}
}

func OneBatch(batch arrow.RecordBatch) array.RecordReader {
	r, err := array.NewRecordReader(batch.Schema(), []arrow.RecordBatch{batch})
	if err != nil {
		panic(err)
	}
	return r
}

// Rounds returns how often to repeat a test: the value of the environment variable env, or n if it is unset.
func Rounds(t testing.TB, env string, n int) int {
	if v := os.Getenv(env); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatalf("%s: %v", env, err)
		}
	}
	return n
}

// CPU returns the CPU time that the process has used, which depends less on the machine's load than elapsed time does.
func CPU() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func Snapshot(t testing.TB, b *tables.Bucket, name string) string {
	t.Helper()
	name, err := b.Snapshot(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// PutRows puts the rows of a reader, which must succeed.
func PutRows(t testing.TB, b *tables.Bucket, name string, r array.RecordReader, m tables.PutMode, o *tables.PutOptions) tables.Version {
	t.Helper()
	v, err := b.Table(name).Put(t.Context(), r, m, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Fold moves the rows of all tables from the tail to files.
func Fold(t testing.TB, s *tables.Store) {
	t.Helper()
	if _, err := s.Fold(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// Compact compacts all tables that need it.
func Compact(t testing.TB, s *tables.Store) {
	t.Helper()
	if _, err := s.Compact(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// ReadSnapshot returns the sorted numbers of a table in a snapshot.
func ReadSnapshot(ctx context.Context, b *tables.Bucket, snapshot, name string) ([]int64, error) {
	table, err := b.Table(name).At(ctx, tables.AtSnapshot(snapshot))
	if err != nil {
		return nil, err
	}
	ns, err := ReadAll(ctx, table, nil)
	slices.Sort(ns)
	return ns, err
}

// BucketWithoutTail returns a bucket of a store without a tail: each put writes data files.
func BucketWithoutTail(t testing.TB) *tables.Bucket {
	return Open(t, t.TempDir(), &tables.Options{NoTail: true}).Bucket("b")
}

// WantRowsAt checks the rows of a table in the state that at selects, in the order of a scan.
func WantRowsAt(t testing.TB, b *tables.Bucket, name string, at tables.At, want ...int64) {
	t.Helper()
	var got []int64
	table, err := b.Table(name).At(t.Context(), at)
	if err == nil {
		got, err = ReadAll(t.Context(), table, nil)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("at %v, table %q has rows %v, error %v; want %v", at, name, got, err, want)
	}
}

// WantMissing checks that a table does not exist.
func WantMissing(t testing.TB, b *tables.Bucket, name string) {
	t.Helper()
	if ns, ok, err := Read(t.Context(), b, name); ok || err != nil {
		t.Fatalf("table %q has rows %v, error %v; want no table", name, ns, err)
	}
}
