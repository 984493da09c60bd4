package tables_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	b := tabletest.Open(t, dir, nil).Bucket("b")
	ctx := t.Context()
	put := func(m tables.PutMode, o *tables.PutOptions, ns ...int64) error {
		return must.Err(b.Table("t").Put(ctx, tabletest.Rows(ns...), m, o))
	}
	wantSettings := func(wantSettings tables.Settings) {
		t.Helper()
		table := b.Table("t")
		got, err := table.Settings(ctx)
		if err != nil || !reflect.DeepEqual(got, wantSettings) {
			t.Fatalf("Settings = %+v, want %+v; error: %v", got, wantSettings, err)
		}
	}
	first := tables.Settings{Keys: []string{"n"}}
	must.Do(t, put(tables.PutAppend, &tables.PutOptions{Settings: &first}, 1, 2))
	wantSettings(first)
	must.Do(t, put(tables.PutReplace, nil, 3))
	wantSettings(first)
	second := tables.Settings{Keys: []string{"s", "n"}, OnDuplicate: tables.KeepAll}
	must.Do(t, put(tables.PutReplace, &tables.PutOptions{Settings: &second}, 4))
	wantSettings(second)
	must.Do(t, b.Table("t").SetSettings(ctx, first))
	wantSettings(first)
	for _, bad := range []tables.Settings{
		{Time: "n"}, {Time: "missing"}, {Keys: []string{"n", "n"}}, {OnDuplicate: "most"}, {OnDuplicate: tables.KeepLast},
	} {
		if err := b.Table("t").SetSettings(ctx, bad); err == nil {
			t.Errorf("SetSettings(%+v) succeeded, want an error", bad)
		}
		if err := put(tables.PutReplace, &tables.PutOptions{Settings: &bad}, 5); err == nil {
			t.Errorf("Put with settings %+v succeeded, want an error", bad)
		}
	}
	wantSettings(first)
	tabletest.WantRows(t, b, "t", 4)
	must.Do(t, b.Table("t").SetSettings(ctx, tables.Settings{}))
	wantSettings(tables.Settings{})
	must.Do(t, b.Table("t").SetSettings(ctx, tables.Settings{Keys: []string{"n"}, KeepVersions: 3}))
	must.Do(t, b.Table("t").SetSettings(ctx, tables.Settings{KeepAge: "1h", Evolution: tables.Strict}, "keep_age", "keys"))
	wantSettings(tables.Settings{KeepVersions: 3, KeepAge: "1h"})
	must.Do(t, b.Table("t").SetSettings(ctx, tables.Settings{}, []string{}...))
	wantSettings(tables.Settings{KeepVersions: 3, KeepAge: "1h"})
	if err := b.Table("t").SetSettings(ctx, tables.Settings{}, "keep_ages"); err == nil || !strings.Contains(err.Error(), `did you mean "keep_age"?`) {
		t.Errorf("SetSettings with only keep_ages: error = %v, want a suggestion", err)
	}
	must.Fail(t, b.Table("none").SetSettings(ctx, first), tables.ErrNotFound, "SetSettings of a missing table")
}

// TestUnknownSettings checks that unknown settings are rejected with a suggestion, and that marshaled settings are read
// back unchanged.
func TestUnknownSettings(t *testing.T) {
	var s tables.Settings
	if err := json.Unmarshal([]byte(`{"tiem": "day"}`), &s); err == nil || !strings.Contains(err.Error(), `unknown setting "tiem" (did you mean "time"?)`) {
		t.Errorf("Unmarshal error = %v, want an unknown setting and a suggestion", err)
	}
	all := tables.Settings{Time: "t", Keys: []string{"k"}, OnDuplicate: tables.KeepLast, Partition: tables.PartitionDay, Evolution: tables.Strict}
	text := must.Get(json.Marshal(all))(t)
	if err := json.Unmarshal(text, &s); err != nil || !reflect.DeepEqual(s, all) {
		t.Errorf("Unmarshal of marshaled settings = %+v, %v, want %+v", s, err, all)
	}
}

func TestFoldOfSeveralBuckets(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), nil)
	for _, name := range []string{"a", "b", "c"} {
		tabletest.Put(t, s.Bucket(name), "t", tables.PutAppend, 1, 2)
	}
	r, err := s.Fold(t.Context(), &tables.MaintainOptions{Buckets: tables.Buckets{"a", "c"}})
	if err != nil || r.Tables != 2 || r.Rows != 4 {
		t.Fatalf("Fold = %+v, %v; want Tables 2 and Rows 4", r, err)
	}
	if _, err := s.Fold(t.Context(), &tables.MaintainOptions{Buckets: tables.Buckets{"a", "c"}, Tables: []string{"t"}}); err == nil {
		t.Error("Fold of a table in two buckets succeeded, want an error")
	}
	r, err = s.Fold(t.Context(), nil)
	if err != nil || r.Tables != 1 {
		t.Fatalf("Fold = %+v, %v; want Tables 1", r, err)
	}
}

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
	count := func(column string) int64 {
		o := &tables.ScanOptions{From: start, To: end, TimeColumn: column}
		return must.Get(tabletest.CountRows(must.Get(b.Table("t").Scan(t.Context(), o))(t)))(t)
	}
	if n, byCreated := count(""), count("created"); n != 3 || byCreated != 0 {
		t.Errorf("scan of the range returned %d rows by the settings' column and %d by the first column, want 3 and 0", n, byCreated)
	}
	result, err := b.Table("t").ReplaceRange(t.Context(), start, end, rows(6, 1), nil)
	if err != nil || result.Deleted != 3 || count("") != 1 {
		t.Errorf("ReplaceRange = %+v, %v, then %d rows in the range; want 3 deleted and 1 row", result, err, count(""))
	}
}
