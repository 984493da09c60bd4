package commit

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// TestAppendOfPreparedRows checks that prepared rows do not go to the tail if the table or the bucket's rules have
// changed, or if a concurrent put with the same ID was faster.
func TestAppendOfPreparedRows(t *testing.T) {
	ctx := t.Context()
	s := must.Get(tail.Open(ctx, partd.NewDict(), "w", false, 1<<20))(t)
	columns := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	b.Field(0).(*array.Int64Builder).Append(1)
	frame := must.Get(new(tail.Encoder).Encode(columns, []arrow.RecordBatch{b.NewRecordBatch()}, "id"))(t)
	e := (&Tables{shared: shared{Options: Options{FoldBytes: 1 << 20}, Tail: s}}).newEntry(icecat.TableName{})
	e.bucketRules, e.state = "rules", state{location: "location", folded: -1}
	e.log = s.Log("uuid", -1)
	must.Get(e.log.Append(ctx, []tail.Frame{frame}, time.Now()))(t)
	for _, a := range []*appendAttempt{
		{location: "location", rules: "earlier rules"}, {location: "earlier location", rules: "rules"}, {location: "location", rules: "rules", id: "id"},
	} {
		a.frame = frame
		if err := e.append(ctx, a); err != nil || a.tableChanged != (a.id == "") {
			t.Errorf("append(%+v): tableChanged = %v, error %v", a, a.tableChanged, err)
		}
		if rows, _, _, _ := e.log.Size(-1); rows != 1 {
			t.Fatalf("after append(%+v), the tail has %d rows, want 1", a, rows)
		}
	}
}

var foldColumns = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)

func foldRow() *datafile.Source {
	b := array.NewRecordBuilder(memory.DefaultAllocator, foldColumns)
	b.Field(0).(*array.Int64Builder).Append(1)
	return &datafile.Source{Schema: foldColumns, Batches: []arrow.RecordBatch{b.NewRecordBatch()}}
}

// openEntry returns the table of a process that has its own tail, and a counter of the loads of tables.
func openEntry(t *testing.T, cat *icecat.Catalog, process string) (e *Entry, loads *int) {
	t.Helper()
	s, loads := openTables(t, cat, partd.NewDict(), process)
	e = must.Get(s.Acquire(t.Context(), icecat.TableName{Namespace: "b", Name: "t"}))(t)
	return e, loads
}

// openTables returns the tables of a process that has its tail in p, and a counter of the loads of tables.
func openTables(t *testing.T, cat *icecat.Catalog, p partd.Partd, process string) (s *Tables, loads *int) {
	t.Helper()
	s = NewTables(Options{
		Catalog: cat, FoldBytes: 1 << 20, FoldAge: -1, Memory: 64 << 20,
		Logger:   slog.New(slog.NewTextHandler(io.Discard, nil)),
		BucketOf: func(namespace string) string { return namespace },
		Folding: func(ctx context.Context, _ icecat.TableName) (context.Context, func(int64, error)) {
			return ctx, func(int64, error) {}
		},
		OnPrepared: func() {},
	})
	loads = new(int)
	s.load = func(ctx context.Context, namespace, name string) (*table.Table, error) {
		*loads++
		return cat.Load(ctx, namespace, name)
	}
	rows := must.Get(tail.Open(t.Context(), p, process, false, 1<<20))(t)
	must.Do(t, s.Recover(t.Context(), rows))
	return s, loads
}

// create creates a table, and puts a row in the tail with the table's name as ID.
func create(t *testing.T, e *Entry) {
	t.Helper()
	shape := must.Get(schema.NewShape(foldColumns, nil, 0))(t)
	meta := must.Get(definition.NewMetadata(shape, e.tables.Catalog.NewLocation(), nil, 0))(t)
	must.Do(t, e.Create(t.Context(), foldRow(), meta, e.Name, nil))
}

func appendRow(t *testing.T, e *Entry) {
	t.Helper()
	_, _, err := e.Append(t.Context(), foldRow(), "", func(*schema.Caster) error { return nil })
	must.Do(t, err)
}

// TestFoldLoadsOnce checks that a fold loads its table once, or twice if another process commits during the fold, and
// that it then keeps the rows of the other process.
func TestFoldLoadsOnce(t *testing.T) {
	ctx := t.Context()
	cat := must.Get(icecat.Open(ctx, t.TempDir(), icecat.Options{FS: vfs.OS{}, CacheBytes: 1 << 20}))(t)
	defer cat.Close()
	e, loads := openEntry(t, cat, "one")
	create(t, e)
	expect := func(got *table.Table, rows int64) {
		t.Helper()
		l, err := cat.Get(ctx, "b", "t")
		if err != nil || l.Rows != rows {
			t.Fatalf("the table has %d rows, error %v; want %d rows", l.Rows, err, rows)
		}
		newest, err := cat.Location(ctx, "b", "t")
		if err != nil || got.MetadataLocation() != newest || e.state.location != newest {
			t.Errorf("after a fold to %s (error %v), the result is %s, and the entry's state %s", newest, err, got.MetadataLocation(), e.state.location)
		}
	}
	for rows := int64(1); rows <= 3; rows++ {
		*loads = 0
		e.Commits.Lock()
		folded, err := e.FoldAll(ctx)
		e.Commits.Unlock()
		if err != nil || *loads != 1 {
			t.Fatalf("a fold loaded its table %d times, error %v; want once", *loads, err)
		}
		expect(folded, rows)
		appendRow(t, e)
	}

	*loads = 0
	f, err := e.startFold(ctx, time.Now())
	if err != nil || f == nil {
		t.Fatalf("startFold returned %v, error %v; want rows", f, err)
	}
	other, _ := openEntry(t, cat, "two")
	appendRow(t, other)
	if n, err := other.Fold(ctx); n != 1 || err != nil {
		t.Fatalf("another process folded %d rows, error %v; want 1", n, err)
	}
	f.rows = must.Get(f.read())(t)
	_, folded, err := e.commitFold(ctx, f)
	if err != nil || *loads != 2 {
		t.Fatalf("a fold with a conflict loaded its table %d times, error %v; want twice", *loads, err)
	}
	e.mu.Lock()
	err = e.advance(ctx, f.t, folded)
	e.mu.Unlock()
	must.Do(t, err)
	expect(folded, 5)
}

// TestRecoverLoadsNoTable checks that Recover loads no table, that Acquire then reads the rows of its table, and that
// ReadTails reads all other rows. No rows of folded epochs or deleted tables may stay in the tail.
func TestRecoverLoadsNoTable(t *testing.T) {
	ctx := t.Context()
	cat := must.Get(icecat.Open(ctx, t.TempDir(), icecat.Options{FS: vfs.OS{}, CacheBytes: 1 << 20}))(t)
	defer cat.Close()
	p := partd.NewDict()
	s, _ := openTables(t, cat, p, "one")
	name := func(table string) icecat.TableName { return icecat.TableName{Namespace: "b", Name: table} }
	acquire := func(table string) *Entry {
		t.Helper()
		return must.Get(s.Acquire(ctx, name(table)))(t)
	}
	for _, table := range []string{"a", "b", "folded"} {
		create(t, acquire(table))
	}
	folded := acquire("folded")
	crashed := partd.Entry{Key: folded.log.UUID() + "/0"}
	values, err := p.Get(ctx, crashed.Key)
	if err != nil || len(values[0]) == 0 {
		t.Fatalf("the tail has %d bytes of the table, error %v", len(values[0]), err)
	}
	crashed.Value = values[0]
	must.Get(folded.Fold(ctx))(t)
	deleted := partd.Entry{Key: uuid.NewString() + "/0", Value: crashed.Value}
	must.Do(t, p.Append(ctx, crashed, deleted)) // as if the process crashed before it deleted these keys

	s, loads := openTables(t, cat, p, "one")
	expect := func(operation string, rows int64, wantLoads int, key string) {
		t.Helper()
		values, err := p.Get(ctx, key)
		if n, _, _ := s.Tail.Size(); err != nil || n != rows || *loads != wantLoads || len(values[0]) > 0 {
			t.Errorf("after %s, the tail has %d rows and %d bytes of key %s, after %d loads of tables, error %v; want %d rows, none and %d loads",
				operation, n, len(values[0]), key, *loads, err, rows, wantLoads)
		}
	}
	expect("Recover", 0, 0, deleted.Key)
	a := acquire("a")
	expect("Acquire", 1, 1, deleted.Key)
	if applied, err := a.applied(ctx, a.log, a.state.uuid, "a"); !applied || err != nil {
		t.Errorf("the put of the first row was applied: %v, error %v; want true", applied, err)
	}
	if names := s.WithTail(ctx, "b"); len(names) != 2 { // calls ReadTails
		t.Errorf("tables with rows in the tail: %v, want 2", names)
	}
	expect("ReadTails", 2, 3, crashed.Key)
}
