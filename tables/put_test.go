package tables_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// nullsOf returns two rows with nulls in all fields.
func nullsOf(fields ...arrow.Field) array.RecordReader {
	schema := arrow.NewSchema(fields, nil)
	columns := make([]arrow.Array, len(fields))
	for i, f := range fields {
		columns[i] = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, 2)
	}
	return array.ReaderFromIter(schema, func(yield func(arrow.RecordBatch, error) bool) {
		yield(array.NewRecordBatch(schema, columns, 2), nil)
	})
}

// TestAppendMissingColumns checks that an append reports the table columns that its rows lack, and that an append
// with AllColumns fails instead. A column that contains only nulls is not missing.
func TestAppendMissingColumns(t *testing.T) {
	n := arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}
	s := arrow.Field{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}
	for name, fold := range map[string]int64{"in the tail": 0, "in files": 1} {
		b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldBytes: fold}).Bucket("b")
		var missing []string
		put := func(o tables.PutOptions, fields ...arrow.Field) error {
			o.MissingColumns = &missing
			return must.Err(b.Table("t").Put(t.Context(), nullsOf(fields...), tables.PutAppend, &o))
		}
		if err := put(tables.PutOptions{}, n, s); err != nil || missing != nil {
			t.Fatalf("put of all columns, %s: missing columns %q, error %v; want no missing columns", name, missing, err)
		}
		if err := put(tables.PutOptions{}, n); err != nil || !reflect.DeepEqual(missing, []string{"s"}) {
			t.Errorf("put without column s, %s: missing columns %q, error %v; want s to be missing", name, missing, err)
		}
		if err := put(tables.PutOptions{AllColumns: true}, n); err == nil || !strings.Contains(err.Error(), `column "s": the rows lack this column`) {
			t.Errorf("put without column s with AllColumns, %s: error = %v, want a missing column", name, err)
		}
		if err := put(tables.PutOptions{AllColumns: true}, n, arrow.Field{Name: "s", Type: arrow.Null, Nullable: true}); err != nil || missing != nil {
			t.Errorf("put with nulls in column s, %s: missing columns %q, error %v; want no missing columns", name, missing, err)
		}
	}
}

// TestAppendDifferentValueKind checks that values with the column's type but a different meaning are rejected.
func TestAppendDifferentValueKind(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	put := func(name, values string) error {
		m := arrow.MetadataFrom(map[string]string{schema.ValuesKey: values})
		if values == "" {
			m = arrow.Metadata{}
		}
		return must.Err(b.Table(name).Put(t.Context(), nullsOf(arrow.Field{Name: "v", Type: arrow.PrimitiveTypes.Int64, Nullable: true, Metadata: m}), tables.PutAppend, nil))
	}
	for _, kinds := range [][2]string{{"period[D]", "period[M]"}, {"period[D]", ""}, {"", "period[D]"}} {
		name := "t" + kinds[0] + "," + kinds[1]
		for range 2 {
			must.Do(t, put(name, kinds[0]))
		}
		if err := put(name, kinds[1]); err == nil || !strings.Contains(err.Error(), "values are of kind") {
			t.Errorf("put of values of kind %q into a column of kind %q: error = %v, want an error about the kinds", kinds[1], kinds[0], err)
		}
	}
}

// TestAppendDuringSettingsChanges checks that an append finishes, however often the table changes
// while its rows are prepared.
func TestAppendDuringSettingsChanges(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	n := arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}
	tabletest.PutRows(t, b, "t", nullsOf(n), tables.PutAppend, nil)
	e, release, err := b.Table("t").Acquire(t.Context())
	must.Do(t, err)
	defer release()
	src := must.Get(datafile.Gather(nullsOf(n), 1<<20))(t)
	defer src.Release()
	attempts, lastErr := 0, make(chan error, 1)
	_, _, err = e.Append(t.Context(), src, "", func(*schema.Caster) error {
		if attempts++; attempts > 5 {
			return errors.New("the append was attempted more than 5 times")
		}
		changeErr := make(chan error, 1)
		go func() {
			err := b.Table("t").SetSettings(t.Context(), tables.Settings{Evolution: []tables.Evolution{"", tables.Flexible}[attempts%2]})
			_, tailErr := e.HasTail(t.Context())
			changeErr <- errors.Join(err, tailErr)
		}()
		select {
		case err := <-changeErr:
			return err
		case <-time.After(2 * time.Second): // the change waits until the append ends
			go func() { lastErr <- <-changeErr }()
			return nil
		}
	})
	if err != nil {
		t.Fatalf("Append in attempt %d: %v", attempts, err)
	}
	if attempts == 3 { // with fewer attempts, a change was slow and may still run
		err = <-lastErr
	}
	if err != nil || attempts > 3 {
		t.Errorf("the append took %d attempts, want at most 3; error: %v", attempts, err)
	}
	wantEqual(t, "the rows", scanJSON(t, b, "t", nil), `{"n":null},{"n":null},{"n":null},{"n":null}`)
}

// TestCreateInTail checks that a small append that creates a table, and syncs no file, survives a power loss. Other
// Stores see an empty table until the rows are folded (moved into data files).
func TestCreateInTail(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	put := func(n int64, id string) {
		t.Helper()
		if v, err := b.Table("a").Put(t.Context(), tabletest.Rows(n), tables.PutAppend, &tables.PutOptions{ID: id, Metadata: tables.Metadata{"k": fmt.Sprint(n)}}); v != 1 || err != nil {
			t.Fatalf("Put = version %+v, error %v; want version 1", v, err)
		}
	}
	put(1, "x")
	put(1, "x")
	put(2, "")
	otherStore := tabletest.Open(t, s.Dir(), &tables.Options{NoTail: true})
	tabletest.WantRows(t, otherStore.Bucket(""), "a")
	cur := must.Get(s.Catalog().Load(t.Context(), tables.DefaultNamespace, "a"))(t)
	file := cur.MetadataLocation()[len("file://"):]
	must.Do(t, s.Close())
	// A power loss may remove or truncate a file that was not synced.
	for _, loseFile := range []func() error{func() error { return os.Remove(file) }, func() error { return os.Truncate(file, 100) }} {
		must.Do(t, loseFile())
		s = tabletest.Open(t, s.Dir(), &tables.Options{FoldAge: -1})
		b = s.Bucket("")
		tabletest.WantRows(t, b, "a", 1, 2)
		for info, err := range b.Tables(t.Context(), nil) {
			if err != nil || info.Rows != 2 || info.Version != 1 || info.Metadata["k"] != "1" {
				t.Fatalf("listing yielded %+v, error %v; want 2 rows, version 1 and metadata k of the first put", info, err)
			}
		}
		must.Get(os.Stat(file))(t)
		must.Do(t, s.Close())
	}
	s = tabletest.Open(t, s.Dir(), &tables.Options{FoldAge: -1})
	b = s.Bucket("")
	if r, err := s.Fold(t.Context(), nil); err != nil || r.Rows != 2 {
		t.Fatalf("Fold = %+v, %v; want Rows 2", r, err)
	}
	if v := tabletest.PutRows(t, b, "a", tabletest.Rows(1), tables.PutAppend, &tables.PutOptions{ID: "x"}); v != 1 {
		t.Fatalf("repeated put returned version %d, want 1", v)
	}
	tabletest.WantRows(t, b, "a", 1, 2)
	tabletest.WantRows(t, otherStore.Bucket(""), "a", 1, 2)
}

// TestRejectsNulls checks that puts of rows without a time or a key are rejected.
func TestRejectsNulls(t *testing.T) {
	for _, noTail := range []bool{false, true} {
		s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: noTail, FoldAge: -1})
		b := s.Bucket("b")
		o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts", Keys: []string{"k"}}}
		put := func(rows string) error {
			return must.Err(b.Table("t").Put(t.Context(), rowsOfJSON(t, rows, tickSchema.Fields()...), tables.PutAppend, o))
		}
		bad := map[string]string{
			"ts": `[{"ts":"2024-01-01 00:00:00Z","k":"a","v":1},{"ts":null,"k":"a","v":1}]`,
			"k":  `[{"ts":"2024-01-01 00:00:00Z","k":null,"v":1}]`,
		}
		for range 2 { // in the first round, the table does not exist yet
			for column, rows := range bad {
				var schema *tables.SchemaError
				if err := put(rows); !errors.As(err, &schema) || schema.Column != column {
					t.Errorf("put of a null in column %s: error = %v, want a SchemaError", column, err)
				}
			}
			must.Do(t, put(`[{"ts":"2024-01-01 00:00:00Z","k":"a","v":1}]`))
		}
		got, err := ticksFrom(s.Bucket("b").Table("t").Scan(t.Context(), nil))
		if err != nil || len(got) != 2 {
			t.Errorf("got rows %v, want 2; error: %v", got, err)
		}
	}
}

// TestReleaseReaderEarly checks that readers of ordered tables that are released before their end leave no goroutines.
func TestReleaseReaderEarly(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true})
	for i := range int64(5) {
		rows := []tick{{i, "a", i, 0}, {i + 100, "a", i, 0}}
		tabletest.PutRows(t, s.Bucket("b"), "t", ticksOf(rows, 1), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}})
	}
	table := s.Bucket("b").Table("t")
	before := runtime.NumGoroutine()
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		r := must.Get(table.Scan(ctx, nil))(t)
		r.Next()
		cancel()
		r.Release()
	}
	for range 100 {
		if runtime.NumGoroutine() <= before+2 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines are running, want at most %d", runtime.NumGoroutine(), before+2)
}

// TestTwoWriters checks that each rule for duplicates holds if two Stores, which simulate two processes, put rows
// with the same times.
func TestTwoWriters(t *testing.T) {
	const puts = 16
	for _, rule := range []tables.OnDuplicate{tables.KeepFirst, tables.KeepLast, tables.RefuseDuplicate} {
		dir := t.TempDir()
		stores := []*tables.Store{tabletest.Open(t, dir, &tables.Options{NoTail: true}), tabletest.Open(t, dir, &tables.Options{Tail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}, FoldAge: time.Millisecond})}
		o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts", OnDuplicate: rule}}
		tabletest.PutRows(t, stores[0].Bucket("b"), "t", ticksOf(nil, 1), tables.PutAppend, o)
		var writers sync.WaitGroup
		var successes atomic.Int64
		for n, s := range stores {
			writers.Go(func() {
				for i := range int64(puts) {
					rows := []tick{{i % 10, "k", int64(n)*1000 + i, 0}, {1000 + int64(n)*100 + i, "k", i, 0}}
					_, err := s.Bucket("b").Table("t").Put(t.Context(), ticksOf(rows, 10), tables.PutAppend, o)
					switch {
					case err == nil:
						successes.Add(1)
					case rule != tables.RefuseDuplicate || !errors.As(err, new(*tables.DuplicateError)):
						t.Errorf("%s: Put: %v", rule, err)
					}
				}
			})
		}
		writers.Wait()
		for _, s := range stores {
			tabletest.Fold(t, s)
		}
		got, err := ticksFrom(stores[0].Bucket("b").Table("t").Scan(t.Context(), nil))
		want := 10 + 2*puts
		if rule == tables.RefuseDuplicate {
			want = int(2 * successes.Load())
		}
		if err != nil || len(got) != want {
			t.Errorf("%s: got %d rows, want %d; error: %v", rule, len(got), want, err)
		}
		for i := 1; i < len(got); i++ {
			if got[i].ts <= got[i-1].ts {
				t.Errorf("%s: row %v comes after row %v, want increasing times", rule, got[i], got[i-1])
			}
		}
	}
}

// fullDisk is a file system without room for data files.
type fullDisk struct{ vfs.FS }

func (d fullDisk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.HasSuffix(name, ".parquet") {
		return f, err
	}
	return fullFile{f}, nil
}

type fullFile struct{ vfs.File }

func (fullFile) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestPutToFullDisk checks that the error of each put to a full disk wraps ENOSPC.
func TestPutToFullDisk(t *testing.T) {
	rows := make([]tick, 60_000)
	for i := range rows {
		rows[i] = tick{int64(i), fmt.Sprintf("%x%x%x%x", rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64()), int64(i), 0}
	}
	for i, time := range []string{"", "ts", ""} {
		rows := rows
		if i == 2 {
			rows = rows[:10] // they are written only when the file is closed
		}
		s := openHooked(t, t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true}, tables.Hooks{FS: fullDisk{vfs.OS{}}, FileBytes: 10_000})
		for range 4 {
			_, err := s.Bucket("b").Table("t").Put(t.Context(), ticksOf(rows, 1000), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Time: time}})
			must.Fail(t, err, syscall.ENOSPC, "time column %q: Put", time)
		}
	}
}

// TestSnapshotAfterClockChange checks that a snapshot can be added although the clock has been set back since the
// table's metadata changed. Iceberg's library rejects a snapshot that is a minute older than the metadata.
func TestSnapshotAfterClockChange(t *testing.T) {
	t.Parallel()
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("")
	createIceberg(t, b, iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64}), nil, 2)
	v := must.Get(b.Table("t").View(t.Context(), false))(t)
	meta := must.Get(hourOldAttempt(t, b).AddSnapshot(v.Table().Metadata(), 1, &table.Summary{Operation: table.OpDelete}, nil))(t)
	if got, least := meta.CurrentSnapshot().TimestampMs, v.Table().Metadata().LastUpdatedMillis(); got < least {
		t.Errorf("the snapshot's timestamp is %d, want at least %d, the metadata's", got, least)
	}
}

// hourOldAttempt returns an attempt to change the table t that started an hour ago.
func hourOldAttempt(t *testing.T, b *tables.Bucket) *commit.Attempt {
	t.Helper()
	e, release, err := b.Table("t").Acquire(t.Context())
	must.Do(t, err)
	t.Cleanup(release)
	change := e.NewChange()
	return &commit.Attempt{Change: &change, IO: b.Store().Catalog().NewIO(), Now: time.Now().Add(-time.Hour)}
}
