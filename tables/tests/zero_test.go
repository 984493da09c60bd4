package tables_test

import (
	"errors"
	"testing"

	"github.com/go-partd/partd/tables"

	"github.com/go-partd/partd/internal/testutil/zerovalues"
)

// TestZeroValues checks that zero values, and the nil results of failed calls, return
// errors from every method, and never panic.
func TestZeroValues(t *testing.T) {
	ctx := t.Context()
	zerovalues.Check(t, map[string]any{
		"Store": new(tables.Store), "Bucket": new(tables.Bucket), "Table": new(tables.Table), "Txn": new(tables.Txn), "Lock": new(tables.Lock),
		"Store(nil)": (*tables.Store)(nil), "Store.Bucket": new(tables.Store).Bucket("a"), "Store(nil).Bucket": (*tables.Store)(nil).Bucket("a"),
		"Bucket(nil)": (*tables.Bucket)(nil), "Table(nil)": (*tables.Table)(nil), "Lock(nil)": (*tables.Lock)(nil),
	}, "Close", "Unlock")
	type row struct{ N int64 }
	if _, err := tables.Append(ctx, nil, []row{{1}}); !errors.Is(err, tables.ErrClosed) {
		t.Errorf("Append to a nil Table: error = %v, want ErrClosed", err)
	}
	if _, err := tables.Export(ctx, nil, t.TempDir()+"/t", nil); !errors.Is(err, tables.ErrClosed) {
		t.Errorf("Export of a nil Table: error = %v, want ErrClosed", err)
	}
	for _, err := range tables.Rows[row](ctx, nil, nil) {
		if !errors.Is(err, tables.ErrClosed) {
			t.Errorf("Rows of a nil Table: error = %v, want ErrClosed", err)
		}
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
	if _, err := new(tables.Store).Bucket("a").Table("t").Info(ctx); !errors.Is(err, tables.ErrClosed) {
		t.Errorf("Table of a zero Store: error = %v, want ErrClosed", err)
	}
}
