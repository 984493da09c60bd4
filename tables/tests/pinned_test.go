package tables_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestPinnedTable checks that the methods of a pinned Table that require the current state, such as changes, return
// ErrPinned and do not read the new rows. Scan must read the selected state.
func TestPinnedTable(t *testing.T) {
	ctx := t.Context()
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	tabletest.Put(t, b, "t", tables.PutReplace, 1)
	tabletest.Snapshot(t, b, "s")
	tabletest.Put(t, b, "t", tables.PutReplace, 2)
	before := time.Now()
	notRead := &unusedReader{tabletest.Rows(3), t}
	writes := map[string]func(*tables.Table) error{
		"Put": func(t *tables.Table) error { _, err := t.Put(ctx, notRead, tables.PutAppend, nil); return err },
		"Upsert": func(t *tables.Table) error {
			return must.Err(t.Upsert(ctx, notRead, &tables.UpsertOptions{Keys: []string{"n"}}))
		},
		"DeleteRows": func(t *tables.Table) error { _, err := t.DeleteRows(ctx, nil); return err },
		"ReplaceRange": func(t *tables.Table) error {
			return must.Err(t.ReplaceRange(ctx, time.Time{}, before, notRead, nil))
		},
		"Evolve": func(t *tables.Table) error {
			return t.Evolve(ctx, tables.ColumnChange{Op: tables.DropColumn, Column: "s"})
		},
		"SetEvolution": func(t *tables.Table) error { return t.SetEvolution(ctx, tables.Strict) },
		"Partition":    func(t *tables.Table) error { _, err := t.Partition(ctx, tables.PartitionDay); return err },
		"Rename":       func(t *tables.Table) error { return t.Rename(ctx, t.Bucket(), "u") },
		"Migrate": func(t *tables.Table) error {
			return must.Err(t.Migrate(ctx, 1, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return b, nil }))
		},
		"EditRules": func(t *tables.Table) error {
			return t.EditRules(ctx, tables.RuleEdit{Add: []tables.Rule{{Name: "r", Kind: "not_null", Column: "n"}}})
		},
		"SetMetadata": func(t *tables.Table) error {
			return t.ChangeMetadata(ctx, tables.MetadataChange{Set: tables.Metadata{"k": "v"}, Replace: true})
		},
		"ChangeMetadata": func(t *tables.Table) error {
			return t.ChangeMetadata(ctx, tables.MetadataChange{Set: tables.Metadata{"k": "v"}})
		},
		"SetSettings":  func(t *tables.Table) error { return t.SetSettings(ctx, tables.Settings{Keys: []string{"n"}}) },
		"Delete":       func(t *tables.Table) error { return t.Delete(ctx) },
		"Lock":         func(t *tables.Table) error { _, err := t.Lock(ctx); return err },
		"MetadataSize": func(t *tables.Table) error { _, err := t.MetadataSize(ctx); return err },
		"Maintenance":  func(t *tables.Table) error { _, err := t.Maintenance(ctx); return err },
	}
	reads := []string{"At", "Batches", "Bucket", "Changes", "ChangesPlan", "Info", "Name", "Parts", "Rules", "Scan", "ScanPlan", "Schema", "SchemaAsPut", "SchemaVersion", "Settings", "Versions"}
	for _, at := range []tables.At{tables.AtVersion(1), tables.AtSnapshot("s")} {
		pinned := must.Get(b.Table("t").At(ctx, at))(t)
		for m := range reflect.TypeFor[*tables.Table]().Methods() {
			write := writes[m.Name]
			if (write != nil) == slices.Contains(reads, m.Name) {
				t.Errorf("Table.%s is not in exactly one list of this test", m.Name)
			}
			if write == nil {
				continue
			}
			must.Fail(t, write(pinned), tables.ErrPinned, "%s of a pinned table", m.Name)
		}
		wantNumbers(t, ctx, pinned, 1)
		current, err := pinned.At(ctx, nil) // ignores the selection
		must.Do(t, err)
		wantNumbers(t, ctx, current, 2)
	}
	info, err := b.Table("t").Info(ctx)
	if err != nil || len(info.Metadata) != 1 || info.Version != 2 { // the only metadata is UpdatedKey
		t.Errorf("after the rejected writes, Info = %+v, %v; want version 2 without metadata", info, err)
	}
}

// unusedReader is a reader whose rows must not be read.
type unusedReader struct {
	array.RecordReader
	t *testing.T
}

func (r *unusedReader) Next() bool {
	r.t.Error("rows were read")
	return r.RecordReader.Next()
}

// TestPinnedConcurrently checks that goroutines can share a Table that is pinned to a snapshot, and that its methods
// return ErrNotFound after the snapshot was replaced by another of the same name.
func TestPinnedConcurrently(t *testing.T) {
	ctx := t.Context()
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	tabletest.Put(t, b, "t", tables.PutReplace, 1)
	tabletest.Snapshot(t, b, "s")
	pinned := must.Get(b.Table("t").At(ctx, tables.AtSnapshot("s")))(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				must.Check(t, must.Err(pinned.Schema(ctx)))
			}
		})
	}
	wg.Wait()
	tabletest.Put(t, b, "t", tables.PutReplace, 2)
	must.Do(t, b.DeleteSnapshot(ctx, "s"))
	tabletest.Snapshot(t, b, "s")
	if info, err := pinned.Info(ctx); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("Info of a table in a replaced snapshot = %+v, %v; want ErrNotFound", info, err)
	}
	must.Fail(t, must.Err(pinned.Schema(ctx)), tables.ErrNotFound, "Schema of a table in a replaced snapshot")
}

func wantNumbers(t *testing.T, ctx context.Context, table *tables.Table, want ...int64) {
	t.Helper()
	if got, err := tabletest.ReadAll(ctx, table, nil); err != nil || !slices.Equal(got, want) {
		t.Errorf("rows = %v, %v; want %v", got, err, want)
	}
}

// TestZeroValues checks that zero values, and the nil results of failed calls, return
// errors from every method, and never panic.
func TestZeroValues(t *testing.T) {
	ctx := t.Context()
	storetest.CheckZero(t, map[string]any{
		"Store": new(tables.Store), "Bucket": new(tables.Bucket), "Table": new(tables.Table), "Txn": new(tables.Txn), "Lock": new(tables.Lock),
		"Store(nil)": (*tables.Store)(nil), "Store.Bucket": new(tables.Store).Bucket("a"), "Store(nil).Bucket": (*tables.Store)(nil).Bucket("a"),
		"Bucket(nil)": (*tables.Bucket)(nil), "Table(nil)": (*tables.Table)(nil), "Lock(nil)": (*tables.Lock)(nil),
	}, "Close", "Unlock")
	type row struct{ N int64 }
	must.Fail(t, must.Err(tables.Append(ctx, nil, []row{{1}})), tables.ErrClosed, "Append to a nil Table")
	var e *tables.OpError
	if _, err := (*tables.Bucket)(nil).Table("x").Schema(ctx); !errors.As(err, &e) || e.Table != "x" {
		t.Errorf("Schema of a table of a nil Bucket: error = %v, want one about the table x", err)
	}
	must.Fail(t, must.Err(tables.Export(ctx, nil, t.TempDir()+"/t", nil)), tables.ErrClosed, "Export of a nil Table")
	for _, err := range tables.Rows[row](ctx, nil, nil) {
		must.Fail(t, err, tables.ErrClosed, "Rows of a nil Table")
	}
	for _, err := range tables.RowsOf[row](nil) {
		if err == nil {
			t.Error("RowsOf(nil) yielded a row without an error")
		}
	}
	for _, err := range tables.BatchesOf(nil) {
		if err == nil {
			t.Error("BatchesOf(nil) yielded a batch without an error")
		}
	}
	(*tables.ScanPlan)(nil).Close() // callers can defer Close before they check the error
	must.Fail(t, must.Err(new(tables.Store).Bucket("a").Table("t").Info(ctx)), tables.ErrClosed, "Table of a zero Store")
}
