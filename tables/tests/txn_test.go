package tables_test

import (
	"errors"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestTxnAfterUpdate checks that a Txn's methods return an error after its Update has ended, because their changes
// would be lost.
func TestTxnAfterUpdate(t *testing.T) {
	ctx, s := t.Context(), tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("b")
	tabletest.Put(t, b, "t", tables.PutError, 1)
	for _, failure := range []error{nil, errors.New("the function's error")} {
		var endedTxn *tables.Txn
		err := s.Update(ctx, func(txn *tables.Txn) error {
			endedTxn = txn
			return errors.Join(txn.Put("b", "t", tabletest.Rows(2), tables.PutReplace, nil), failure)
		})
		if !errors.Is(err, failure) {
			t.Fatalf("Update error = %v, want %v", err, failure)
		}
		for name, do := range map[string]func() error{
			"put":    func() error { return endedTxn.Put("b", "t", tabletest.Rows(3), tables.PutAppend, nil) },
			"create": func() error { return endedTxn.Put("b", "new", tabletest.Rows(3), tables.PutError, nil) },
			"delete": func() error { return endedTxn.Delete("b", "t") },
			"metadata": func() error {
				return endedTxn.ChangeMetadata("b", "", tables.MetadataChange{Set: tables.Metadata{"k": "v"}})
			},
			"settings": func() error { return endedTxn.SetSettings("b", "t", tables.Settings{}) },
			"rules":    func() error { return endedTxn.EditRules("b", "t", tables.RuleEdit{}) },
			"evolve":   func() error { return endedTxn.Evolve("b", "t") },
		} {
			if err := do(); !errors.Is(err, tables.ErrTxnDone) || !errors.As(err, new(*tables.OpError)) {
				t.Errorf("%s after Update: error = %v, want an OpError that wraps ErrTxnDone", name, err)
			}
		}
	}
	tabletest.WantRows(t, b, "t", 2)
}

// TestRangeOfSettingsColumn checks that a scan of a range and ReplaceRange select the same rows: both use the time
// column in the settings.
func TestRangeOfSettingsColumn(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	day := func(n int) arrow.Timestamp { return arrow.Timestamp(n) * 24 * 3600 * 1e6 }
	rows := func(start, count int) array.RecordReader {
		us := &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
		rb := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "created", Type: us}, {Name: "ts", Type: us}}, nil))
		for i := range count {
			rb.Field(0).(*array.TimestampBuilder).Append(day(1000))
			rb.Field(1).(*array.TimestampBuilder).Append(day(start + i))
		}
		return tabletest.OneBatch(rb.NewRecordBatch())
	}
	must.Get(b.Table("t").Put(t.Context(), rows(0, 10), tables.PutError, &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}}))(t)
	start, end := day(5).ToTime(arrow.Microsecond), day(8).ToTime(arrow.Microsecond)
	count := func(column string) (n int64) {
		table := b.Table("t")
		r := must.Get(table.Scan(t.Context(), &tables.ScanOptions{From: start, To: end, TimeColumn: column}))(t)
		defer r.Release()
		for r.Next() {
			n += r.RecordBatch().NumRows()
		}
		must.Do(t, r.Err())
		return n
	}
	if n, byCreated := count(""), count("created"); n != 3 || byCreated != 0 {
		t.Errorf("scan of the range returned %d rows by the settings' column and %d by the first column, want 3 and 0", n, byCreated)
	}
	result, err := b.Table("t").ReplaceRange(t.Context(), start, end, rows(6, 1), nil)
	if err != nil || result.Deleted != 3 || count("") != 1 {
		t.Errorf("ReplaceRange = %+v, %v, then %d rows in the range; want 3 deleted and 1 row", result, err, count(""))
	}
}
