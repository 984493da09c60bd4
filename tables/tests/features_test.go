package tables_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestHostileNames(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "ware house%20")
	s := tabletest.Open(t, dir, nil)
	hostile := []string{
		"../../../etc/x", "/etc/x", "..", ".", "a/b", `a\b`, "AAPL", "aapl", "BRK.B", " ", "a'b\"; DROP TABLE iceberg_tables;--",
		"default", "default_", strings.Repeat("é", 127), "%2e%2e", "\n\t", "*", "名",
	}
	for i, bucket := range append([]string{""}, hostile...) {
		for j, name := range hostile {
			if (i+j)%5 == 0 {
				tabletest.Put(t, s.Bucket(bucket), name, tables.PutAppend, int64(i*100+j))
				tabletest.Put(t, s.Bucket(bucket), name, tables.PutAppend, int64(i*100+j)+1_000_000)
			}
		}
	}
	var buckets int
	for bucket, err := range s.Buckets(t.Context()) {
		must.Do(t, err)
		buckets++
		i := slices.Index(append([]string{""}, hostile...), bucket)
		var got []string
		for info, err := range s.Bucket(bucket).Tables(t.Context(), nil) {
			if err != nil || info.Bucket != bucket {
				t.Fatalf("listing of bucket %q yielded %+v, error %v; want tables of this bucket", bucket, info, err)
			}
			got = append(got, info.Name)
			n := int64(i*100 + slices.Index(hostile, info.Name))
			tabletest.WantRows(t, s.Bucket(bucket), info.Name, n, n+1_000_000)
		}
		if len(got) == 0 || !slices.IsSorted(got) {
			t.Fatalf("tables of bucket %q are %q, want sorted names", bucket, got)
		}
	}
	if buckets != len(hostile)+1 {
		t.Fatalf("got %d buckets, want %d", buckets, len(hostile)+1)
	}
	for _, name := range []string{"", strings.Repeat("x", 256), "a\x00b", "\xff"} {
		table := s.Bucket("").Table(name) // accepts every name
		_, putErr := table.Put(t.Context(), tabletest.Rows(1), tables.PutAppend, nil)
		_, readErr := table.Scan(t.Context(), nil)
		for _, err := range []error{putErr, readErr, table.Delete(t.Context()), table.SetSettings(t.Context(), tables.Settings{})} {
			if !errors.As(err, new(*tables.ArgumentError)) || table.Name() != name {
				t.Errorf("operation on table %q: error = %v, want an ArgumentError", name, err)
			}
		}
	}
	if all, err := os.ReadDir(parent); err != nil || len(all) != 1 {
		t.Fatalf("the parent directory contains %+v, want only the store; error: %v", all, err)
	}
}

// failingReader is a reader whose Err returns err.
type failingReader struct {
	array.RecordReader
	err error
}

func (f *failingReader) Err() error { return f.err }

func TestFailedPutLeavesNoFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := tabletest.Open(t, dir, &tables.Options{FoldBytes: 500}).Bucket("")
	errReader := errors.New("cut")
	failingRows := func() array.RecordReader {
		r := tabletest.Rows(tabletest.Sequence(0, 100)...)
		r.Next()
		batch := r.RecordBatch()
		r, _ = array.NewRecordReader(tabletest.Numbers, []arrow.RecordBatch{batch, batch, batch})
		return &failingReader{r, errReader}
	}
	for _, mode := range []tables.PutMode{tables.PutAppend, tables.PutReplace, tables.PutError} {
		must.Fail(t, must.Err(b.Table("a").Put(t.Context(), failingRows(), mode, nil)), errReader, "Put with mode %v", mode)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Table("a").Put(ctx, tabletest.Rows(tabletest.Sequence(0, 100)...), tables.PutAppend, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("Put error = %v, want context.Canceled", err)
	}
	tabletest.WantMissing(t, b, "a")
	must.Do(t, filepath.WalkDir(filepath.Join(dir, "data"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("failed puts left the file %s", path)
		}
		return err
	}))
}

func TestSchemaErrorsNameTheColumn(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("x")
	tabletest.Put(t, b, "a", tables.PutAppend, 1)
	for _, c := range []struct {
		column string
		fields []arrow.Field
	}{
		{"n", []arrow.Field{{Name: "n", Type: arrow.BinaryTypes.String, Nullable: true}}},
		{"z", []arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "z", Type: arrow.PrimitiveTypes.Int64}}},
		{"n", []arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "n", Type: arrow.PrimitiveTypes.Int64}}},
		{"m", []arrow.Field{{Name: "m", Type: arrow.FixedWidthTypes.MonthInterval}}},
	} {
		r, err := array.NewRecordReader(arrow.NewSchema(c.fields, nil), nil)
		must.Do(t, err)
		_, err = b.Table("a").Put(t.Context(), r, tables.PutAppend, nil)
		var se *tables.SchemaError
		if !errors.As(err, &se) || se.Column != c.column || !strings.Contains(err.Error(), `"a" in bucket "x"`) {
			t.Errorf("put of %v: error = %v, want a SchemaError for column %q", c.fields, err, c.column)
		}
	}
	// A put can have fewer columns and narrower types than the table.
	tabletest.PutRows(t, b, "a", tabletest.JSONRows(t, "n int32", `{"n":2}`), tables.PutAppend, nil)
	for range 2 {
		table := b.Table("a")
		if got, err := tabletest.ReadAll(t.Context(), table, &tables.ScanOptions{Columns: []string{"n"}}); err != nil || !slices.Equal(got, []int64{1, 2}) {
			t.Fatalf("column n contains %+v, want [1 2]; error: %v", got, err)
		}
		tabletest.Fold(t, s)
	}
}

func TestPutIDsSurviveRestart(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	put := func(m tables.PutMode, id string, ns ...int64) {
		t.Helper()
		tabletest.PutRows(t, b, "a", tabletest.Rows(ns...), m, &tables.PutOptions{ID: id})
	}
	put(tables.PutError, "make", 1)
	put(tables.PutError, "make", 1)
	put(tables.PutAppend, "x", 2)
	put(tables.PutAppend, "x", 2)
	put(tables.PutAppend, "make", 1)
	tabletest.WantRows(t, b, "a", 1, 2)
	tabletest.Fold(t, s)
	put(tables.PutAppend, "x", 2)
	put(tables.PutAppend, "y", 3)
	put(tables.PutReplace, "z", 4) // y is still in the tail
	put(tables.PutAppend, "y", 3)
	put(tables.PutAppend, "w", 5)
	must.Do(t, s.Close())
	s = tabletest.Open(t, s.Dir(), nil)
	b = s.Bucket("")
	for _, id := range []string{"make", "w", "x", "y", "z"} {
		put(tables.PutAppend, id, 9)
	}
	put(tables.PutReplace, "z", 9)
	tabletest.WantRows(t, b, "a", 4, 5)
	// Of concurrent puts with the same ID, only one is applied.
	var g sync.WaitGroup
	for i := range 20 {
		g.Go(func() { put([]tables.PutMode{tables.PutAppend, tables.PutReplace}[i/19], "same", 4, 5, 6) })
	}
	g.Wait()
	ns, _, err := tabletest.Read(t.Context(), b, "a")
	if err != nil || len(ns) != 5 && len(ns) != 3 {
		t.Fatalf("read rows %v, error %v; want 5 rows after the append, or 3 after the replacement", ns, err)
	}
}

func TestInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := tabletest.Open(t, dir, nil)
	_, err := tables.Open(t.Context(), dir, nil)
	if !errors.Is(err, tables.ErrInUse) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), fmt.Sprintf("the tail is in use by process %d on ", os.Getpid())) {
		t.Fatalf("Open error = %v, want ErrInUse with the directory and the process", err)
	}
	tail := partd.NewDict()
	tabletest.Open(t, dir, &tables.Options{Tail: tail})
	if _, err := tables.Open(t.Context(), dir, &tables.Options{Tail: tail}); !errors.Is(err, tables.ErrInUse) {
		t.Fatalf("Open with a tail in use: error = %v, want ErrInUse", err)
	}
	if _, err := tables.Open(t.Context(), t.TempDir(), &tables.Options{Tail: tail}); err == nil {
		t.Fatal("Open with another directory's tail succeeded, want an error")
	}
	nonEmpty := partd.NewDict()
	must.Do(t, nonEmpty.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("v")}))
	if _, err := tables.Open(t.Context(), dir, &tables.Options{Tail: nonEmpty}); err == nil {
		t.Fatal("Open with a tail store that contains another key succeeded, want an error")
	}
	withoutTail := tabletest.Open(t, dir, &tables.Options{NoTail: true})
	tabletest.Put(t, withoutTail.Bucket(""), "a", tables.PutAppend, 1)
	tabletest.WantRows(t, s.Bucket(""), "a", 1)
}

func TestExpireKeepsFilesBeingRead(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldBytes: 400})
	b := s.Bucket("")
	for range 3 {
		tabletest.Put(t, b, "a", tables.PutReplace, tabletest.Sequence(0, 100)...)
	}
	r := must.Get(b.Table("a").Scan(t.Context(), nil))(t)
	tabletest.Put(t, b, "a", tables.PutReplace, 7)
	res, err := s.Expire(t.Context(), &tables.MaintainOptions{Grace: -1})
	if err != nil || res.Versions != 3 || res.FilesRemoved != 0 || res.FilesWaiting == 0 {
		t.Fatalf("Expire = %+v, %v; want Versions 3, FilesRemoved 0 and FilesWaiting above 0", res, err)
	}
	if rows := must.Get(tabletest.CountRows(r))(t); rows != 100 {
		t.Fatalf("scan returned %d rows, want 100", rows)
	}
	if res, err = s.Expire(t.Context(), nil); err != nil || res.FilesRemoved != 0 || res.FilesWaiting == 0 {
		t.Fatalf("Expire = %+v, %v; want FilesRemoved 0 and FilesWaiting above 0", res, err) // the grace period has not ended
	}
	if res, err = s.Expire(t.Context(), &tables.MaintainOptions{Grace: -1}); err != nil || res.FilesRemoved == 0 || res.FilesWaiting != 0 {
		t.Fatalf("Expire = %+v, %v; want FilesRemoved above 0 and FilesWaiting 0", res, err)
	}
	tabletest.WantRows(t, b, "a", 7)
	must.Do(t, b.Delete(t.Context(), "a"))
	must.Get(s.Expire(t.Context(), &tables.MaintainOptions{Grace: -1}))(t)
	if remaining, err := os.ReadDir(filepath.Join(s.Dir(), "data")); err != nil || len(remaining) != 0 {
		t.Fatalf("after Expire, the data directory contains %+v, want it empty; error: %v", remaining, err)
	}
}

// TestTableWithoutIO checks that Bucket.Table accepts every name, and that each operation reports an invalid name or a
// missing table.
func TestTableWithoutIO(t *testing.T) {
	ctx := t.Context()
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	for name, want := range map[string]func(error) bool{
		"":        func(err error) bool { return errors.As(err, new(*tables.ArgumentError)) },
		"a\x00b":  func(err error) bool { return errors.As(err, new(*tables.ArgumentError)) },
		"missing": func(err error) bool { return errors.Is(err, tables.ErrNotFound) },
	} {
		table := b.Table(name)
		if table.Name() != name || table.Bucket().Name() != "b" {
			t.Errorf("Name, Bucket of table %q = %q, %q", name, table.Name(), table.Bucket().Name())
		}
		for operation, call := range map[string]func() error{
			"At":             func() error { _, err := table.At(ctx); return err },
			"Info":           func() error { _, err := table.Info(ctx); return err },
			"Schema":         func() error { _, err := table.Schema(ctx); return err },
			"Scan":           func() error { _, err := table.Scan(ctx, nil); return err },
			"Settings":       func() error { _, err := table.Settings(ctx); return err },
			"Rules":          func() error { _, err := table.Rules(ctx); return err },
			"EditRules":      func() error { return table.EditRules(ctx, tables.RuleEdit{Remove: []string{"r"}}) },
			"ChangeMetadata": func() error { return table.ChangeMetadata(ctx, tables.MetadataChange{}) },
			"SetSettings":    func() error { return table.SetSettings(ctx, tables.Settings{}) },
			"DeleteRows":     func() error { _, err := table.DeleteRows(ctx, filter.Eq("n", 1)); return err },
			"Delete":         func() error { return table.Delete(ctx) },
			"Rename":         func() error { return table.Rename(ctx, b, "u") },
		} {
			if err := call(); !want(err) {
				t.Errorf("%s of table %q: error = %v", operation, name, err)
			}
		}
	}
}
