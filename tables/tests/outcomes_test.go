package tables_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

var errSibling = fmt.Errorf("another goroutine's put failed: %w", partd.ErrUnknownOutcome)

// wantCanceled checks the error of a call whose context was canceled with errSibling.
func wantCanceled(t *testing.T, name string, err error) {
	t.Helper()
	if !errors.Is(err, context.Canceled) || !errors.Is(err, errSibling) || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("%s: error %v wraps context.Canceled: %v, the cause: %v, ErrUnknownOutcome: %v; want true, true, false", name, err,
			errors.Is(err, context.Canceled), errors.Is(err, errSibling), errors.Is(err, partd.ErrUnknownOutcome))
	}
}

// TestCanceledContext checks that each call with a canceled context returns an error that wraps context.Canceled
// and the cause, but not ErrUnknownOutcome.
func TestCanceledContext(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), nil)
	dest := tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("b")
	tabletest.Put(t, b, "t", tables.PutError, tabletest.Sequence(0, 1000)...)
	tabletest.Put(t, b, "u", tables.PutError, tabletest.Sequence(0, 10)...)
	name := must.Get(b.Snapshot(t.Context(), "s"))(t)
	table := b.Table("t")
	where := must.Get(filter.Parse("n < 5"))(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errSibling)
	for call, do := range map[string]func() error{
		"open":    func() error { _, err := tables.Open(ctx, t.TempDir(), nil); return err },
		"append":  func() error { _, err := b.Table("t").Put(ctx, tabletest.Rows(1), tables.PutAppend, nil); return err },
		"create":  func() error { _, err := b.Table("new").Put(ctx, tabletest.Rows(1), tables.PutError, nil); return err },
		"replace": func() error { _, err := b.Table("t").Put(ctx, tabletest.Rows(1), tables.PutReplace, nil); return err },
		"upsert": func() error {
			return must.Err(b.Table("t").Upsert(ctx, tabletest.Rows(1), &tables.UpsertOptions{Keys: []string{"n"}}))
		},
		"delete rows":   func() error { _, err := b.Table("t").DeleteRows(ctx, where); return err },
		"delete":        func() error { return b.Delete(ctx, "t") },
		"delete bucket": func() error { return s.DeleteBucket(ctx, "b", true) },
		"update": func() error {
			return s.Update(ctx, func(x *tables.Txn) error { return x.Put("b", "t", tabletest.Rows(1), tables.PutAppend, nil) })
		},
		"settings": func() error { return b.Table("t").SetSettings(ctx, tables.Settings{}) },
		"metadata": func() error {
			return b.Table("t").ChangeMetadata(ctx, tables.MetadataChange{Set: tables.Metadata{"a": "b"}, Replace: true})
		},
		"evolve":          func() error { return b.Table("t").Evolve(ctx, tables.ColumnChange{Op: "drop", Column: "s"}) },
		"snapshot":        func() error { _, err := b.Snapshot(ctx, "again"); return err },
		"snapshots":       func() error { _, err := b.Snapshots(ctx); return err },
		"restore":         func() error { return b.Restore(ctx, name) },
		"delete snapshot": func() error { return b.DeleteSnapshot(ctx, name) },
		"copy":            func() error { _, err := s.CopyTo(ctx, dest, ""); return err },
		"fold":            func() error { _, err := s.Fold(ctx, nil); return err },
		"compact":         func() error { _, err := s.Compact(ctx, nil); return err },
		"expire":          func() error { _, err := s.Expire(ctx, nil); return err },
		"verify":          func() error { _, err := s.Verify(ctx, nil); return err },
		"table":           func() error { _, err := b.Table("t").Info(ctx); return err },
		"tables":          func() error { return storetest.FirstError(b.Tables(ctx, nil)) },
		"buckets":         func() error { return storetest.FirstError(s.Buckets(ctx)) },
		"exists":          func() error { _, err := b.Exists(ctx); return err },
		"scan":            func() error { _, err := tabletest.ReadAll(ctx, table, nil); return err },
		"tail":            func() error { _, err := table.Scan(ctx, &tables.ScanOptions{Last: 5}); return err },
		"versions":        func() error { _, err := table.Versions(ctx); return err },
		"lock": func() error {
			lock, err := b.Table("t").Lock(t.Context())
			must.Do(t, err)
			_, err = b.Table("t").Lock(ctx)
			return errors.Join(err, lock.Unlock())
		},
	} {
		wantCanceled(t, call, do())
	}
	tabletest.WantRows(t, b, "t", tabletest.Sequence(0, 1000)...)
}

// cancelingReader is a reader that calls cancel before it returns its last batch.
type cancelingReader struct {
	array.RecordReader
	cancel      func()
	batchesLeft int
}

func (e *cancelingReader) Next() bool {
	if e.batchesLeft--; e.batchesLeft == 0 {
		e.cancel()
	}
	return e.batchesLeft >= 0 && (e.batchesLeft > 0 || e.RecordReader.Next())
}

func TestContextCanceledDuringCall(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	tabletest.Put(t, b, "t", tables.PutError, tabletest.Sequence(0, 1000)...)
	for name, put := range map[string]func(ctx context.Context, r array.RecordReader) error{
		"append": func(ctx context.Context, r array.RecordReader) error {
			return must.Err(b.Table("t").Put(ctx, r, tables.PutAppend, nil))
		},
		"replace": func(ctx context.Context, r array.RecordReader) error {
			return must.Err(b.Table("t").Put(ctx, r, tables.PutReplace, nil))
		},
		"upsert": func(ctx context.Context, r array.RecordReader) error {
			return must.Err(b.Table("t").Upsert(ctx, r, &tables.UpsertOptions{Keys: []string{"n"}}))
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		batches := array.RecordReader(&cancelingReader{RecordReader: tabletest.Rows(2000), batchesLeft: 1, cancel: func() { cancel(errSibling) }})
		wantCanceled(t, name, put(ctx, batches))
	}
	tabletest.Put(t, b, "long", tables.PutError, tabletest.Sequence(0, 200_000)...)
	table := b.Table("long")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	r := must.Get(table.Scan(ctx, &tables.ScanOptions{ChunkRows: 10}))(t)
	defer r.Release()
	rows := int64(0)
	for r.Next() {
		rows += r.RecordBatch().NumRows()
		cancel(errSibling)
	}
	if rows == 200_000 {
		t.Error("the scan read all rows although its context was canceled")
	}
	wantCanceled(t, "scan", r.Err())
	tabletest.WantRows(t, b, "t", tabletest.Sequence(0, 1000)...)
}

// TestMaintainStops checks that a pass stops within a second of the end of its context, and leaves no files behind.
func TestMaintainStops(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for i := range 100 {
		tabletest.Put(t, b, fmt.Sprint("t", i%10), tables.PutAppend, int64(i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	start := time.Now()
	r, err := s.Maintain(ctx, nil)
	if !errors.Is(err, context.Canceled) || time.Since(start) > time.Second || r.Tables == 10 {
		t.Errorf("Maintain = %+v, %v after %v; want context.Canceled within a second, before all tables are done", r, err, time.Since(start))
	}
	tabletest.Maintain(t, s, nil)
	for i := range 10 {
		if state := tabletest.MaintenanceOf(t, b, fmt.Sprint("t", i)); state.Files != 1 {
			t.Errorf("table t%d has %d files after the next pass, want 1", i, state.Files)
		}
	}
}

// shakyTail fails some appends, with or without applying them.
type shakyTail struct {
	*tabletest.MemTail
	n int
}

func (s *shakyTail) Append(ctx context.Context, entries ...partd.Entry) error {
	s.n++
	switch s.n % 4 {
	case 1:
		return errors.Join(s.MemTail.Append(ctx, entries...), fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, tabletest.ErrShaky))
	case 2:
		return fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, tabletest.ErrShaky)
	case 3:
		return tabletest.ErrShaky
	}
	return s.MemTail.Append(ctx, entries...)
}

// TestUnknownOutcome retries puts until they are acknowledged: their rows must occur
// once, before and after folds, and after the store is reopened.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	tail := &shakyTail{MemTail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}, n: 3}
	dir, o := t.TempDir(), &tables.Options{Tail: tail, FoldAge: -1}
	s := tabletest.Open(t, dir, o)
	b := s.Bucket("")
	tabletest.Put(t, b, "a", tables.PutError, 0)
	retries := 0
	for n := range 10 { // tables that do not exist yet
		name := fmt.Sprint("new ", n)
		for {
			_, err := b.Table(name).Put(t.Context(), tabletest.Rows(1, 2), tables.PutAppend, nil)
			if err == nil {
				break
			}
			if _, exists, e := tabletest.Read(t.Context(), b, name); !errors.Is(err, tabletest.ErrShaky) || exists || e != nil {
				t.Fatalf("Put error = %v, want errShaky; then the table exists: %v, error %v; want it missing", err, exists, e)
			}
			retries++
		}
		tabletest.WantRows(t, b, name, 1, 2)
	}
	for n := int64(1); n < 30; n++ {
		for tail.n += int(n) % 3; ; retries++ {
			_, err := b.Table("a").Put(t.Context(), tabletest.Rows(n), tables.PutAppend, &tables.PutOptions{ID: fmt.Sprint(n)})
			if err == nil {
				break
			}
			if !errors.Is(err, tabletest.ErrShaky) {
				t.Fatalf("Put error = %v, want errShaky", err)
			}
			got, _, err := tabletest.Read(t.Context(), b, "a")
			if err != nil || !slices.Equal(got, tabletest.Sequence(0, n)) && !slices.Equal(got, tabletest.Sequence(0, n+1)) {
				t.Fatalf("read rows %v, error %v; want 0 to %d, with or without the last", got, err, n)
			}
		}
		tabletest.WantRows(t, b, "a", tabletest.Sequence(0, n+1)...)
		if n%5 == 0 {
			tabletest.Fold(t, s)
		}
	}
	if retries < 20 {
		t.Fatalf("only %d puts were retried, want at least 20", retries)
	}
	must.Do(t, s.Close())
	b = tabletest.Open(t, dir, o).Bucket("")
	tabletest.WantRows(t, b, "a", tabletest.Sequence(0, 30)...)
}

// TestSync checks that with Options.Sync, a retry that is recognized by its ID is also durable, and that a tail that
// cannot sync is refused.
func TestSync(t *testing.T) {
	t.Parallel()
	tail := &gatedTail{MemTail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}}
	b := tabletest.Open(t, t.TempDir(), &tables.Options{Tail: tail, Sync: true, FoldAge: -1}).Bucket("")
	tabletest.Put(t, b, "a", tables.PutAppend, 0)
	outcomes := make(chan error, 1)
	tail.gate.Store(&outcomes)
	for range 2 {
		outcomes <- tabletest.ErrShaky
		if _, err := b.Table("a").Put(t.Context(), tabletest.Rows(1), tables.PutAppend, &tables.PutOptions{ID: "x"}); !errors.Is(err, tabletest.ErrShaky) {
			t.Fatalf("Put error = %v, want errShaky", err)
		}
	}
	tail.gate.Store(nil)
	tabletest.PutRows(t, b, "a", tabletest.Rows(1), tables.PutAppend, &tables.PutOptions{ID: "x"})
	tabletest.WantRows(t, b, "a", 0, 1)
	if _, err := tables.Open(t.Context(), t.TempDir(), &tables.Options{Tail: partd.NewDict(), Sync: true}); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatalf("Open with Sync and a tail that cannot sync: error = %v, want errors.ErrUnsupported", err)
	}
}
