package tables

import (
	"errors"
	"testing"

	"github.com/go-partd/partd/internal/testutil/zerovalues"
)

// TestZeroValues checks that zero values, and the nil results of failed calls, return
// errors from every method, and never panic.
func TestZeroValues(t *testing.T) {
	ctx := t.Context()
	zerovalues.Check(t, map[string]any{
		"Store": new(Store), "Bucket": new(Bucket), "Table": new(Table), "Txn": new(Txn), "Lock": new(Lock),
		"Store(nil)": (*Store)(nil), "Store.Bucket": new(Store).Bucket("a"), "Store(nil).Bucket": (*Store)(nil).Bucket("a"),
		"Bucket(nil)": (*Bucket)(nil), "Table(nil)": (*Table)(nil), "Lock(nil)": (*Lock)(nil),
	}, "Close", "Unlock")
	type row struct{ N int64 }
	if _, err := Append(ctx, nil, []row{{1}}); !errors.Is(err, ErrClosed) {
		t.Errorf("Append to a nil Table: error = %v, want ErrClosed", err)
	}
	if _, err := Export(ctx, nil, t.TempDir()+"/t", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Export of a nil Table: error = %v, want ErrClosed", err)
	}
	for _, err := range Rows[row](ctx, nil, nil) {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("Rows of a nil Table: error = %v, want ErrClosed", err)
		}
	}
	for _, err := range RowsOf[row](nil) {
		if err == nil {
			t.Error("RowsOf(nil) yielded a row without an error")
		}
	}
	for _, err := range BatchesOf(nil) {
		if err == nil {
			t.Error("BatchesOf(nil) yielded a batch without an error")
		}
	}
	(*ScanPlan)(nil).Close() // callers can defer Close before they check the error
	if _, err := new(Store).Bucket("a").Table("t").Info(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("Table of a zero Store: error = %v, want ErrClosed", err)
	}
}
