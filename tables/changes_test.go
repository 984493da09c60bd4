package tables_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// changesText returns the changes of a table as sorted lines of cells, and the version that they lead to.
func changesText(t testing.TB, tab *tables.Table, since tables.At, o *tables.ChangesOptions) (string, tables.Version) {
	t.Helper()
	r := must.Get(tab.Changes(t.Context(), since, o))(t)
	defer r.Release()
	var lines []string
	for r.Next() {
		b := r.RecordBatch()
		for row := range int(b.NumRows()) {
			var cells []string
			for _, c := range b.Columns() {
				cells = append(cells, cellText(c, row))
			}
			lines = append(lines, strings.Join(cells, " "))
		}
	}
	must.Do(t, r.Err())
	slices.Sort(lines)
	return strings.Join(lines, "; "), r.Version
}

// wantChanges checks the changes of table "t" since a state, and returns the version that they lead to.
func wantChanges(t testing.TB, b *tables.Bucket, since tables.At, o *tables.ChangesOptions, want string) tables.Version {
	t.Helper()
	got, version := changesText(t, tableAt(t, b, "t", nil), since, o)
	wantEqual(t, "changes", got, want)
	return version
}

func TestChanges(t *testing.T) {
	ctx := t.Context()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	fields := []arrow.Field{tabletest.Nullable("k", arrow.PrimitiveTypes.Int64), tabletest.Nullable("v", arrow.BinaryTypes.String)}
	put := func(text string) {
		t.Helper()
		tabletest.PutRows(t, b, "t", rowsOfJSON(t, text, fields...), tables.PutAppend, nil)
	}
	put(`[{"k":1,"v":"a"},{"k":2,"v":"b"},{"k":2,"v":"b"}]`)
	first := wantChanges(t, b, nil, nil, "1 a insert; 2 b insert; 2 b insert")
	for name, empty := range map[string]tables.At{"AtTime": tables.AtTime(time.Time{}), "AtSnapshot": tables.AtSnapshot("")} {
		if got, _ := changesText(t, tableAt(t, b, "t", nil), empty, nil); got != "1 a insert; 2 b insert; 2 b insert" {
			t.Errorf("changes since an empty %s: got %q, want three inserts", name, got)
		}
	}
	put(`[{"k":3,"v":null}]`) // into the tail
	tabletest.Snapshot(t, b, "s")
	afterSnapshot := time.Now()
	time.Sleep(5 * time.Millisecond)
	second := wantChanges(t, b, tables.AtVersion(first), nil, "3 null insert")
	must.Get(b.Table("t").Upsert(ctx, rowsOfJSON(t, `[{"k":1,"v":"A"},{"k":2,"v":"b"},{"k":4,"v":"d"}]`, fields...), &tables.UpsertOptions{Keys: []string{"k"}}))(t)
	changed := "1 A insert; 1 a delete; 2 b delete; 4 d insert"
	third := wantChanges(t, b, tables.AtVersion(second), nil, changed)
	wantChanges(t, b, tables.AtSnapshot("s"), nil, changed)
	wantChanges(t, b, tables.AtTime(afterSnapshot), nil, changed)
	wantChanges(t, b, tables.AtVersion(0), nil, "1 A insert; 2 b insert; 3 null insert; 4 d insert")
	keyed := &tables.ChangesOptions{Keys: []string{"k"}}
	wantChanges(t, b, tables.AtVersion(second), keyed, "1 A update_after; 1 a update_before; 2 b delete; 4 d insert")
	tabletest.Compact(t, s)
	if last := wantChanges(t, b, tables.AtVersion(third), nil, ""); last <= third {
		t.Errorf("the compaction did not create a version after %d", third)
	}
	for _, state := range []struct {
		to          tables.At
		since, want string
	}{{tables.AtVersion(second), "first", "3 null insert"}, {tables.AtSnapshot("s"), "first", "3 null insert"}, {tables.AtVersion(first), "second", "3 null delete"}} {
		since := map[string]tables.Version{"first": first, "second": second}[state.since]
		if got, _ := changesText(t, tableAt(t, b, "t", state.to), tables.AtVersion(since), nil); got != state.want {
			t.Errorf("changes since the %s version are %q, want %q", state.since, got, state.want)
		}
	}
	readOnly := tabletest.Open(t, s.Dir(), &tables.Options{ReadOnly: true, NoTail: true})
	if got, version := changesText(t, tableAt(t, readOnly.Bucket(""), "t", nil), tables.AtVersion(second), keyed); !strings.Contains(got, "4 d insert") || version <= third {
		t.Errorf("in a read-only Store, the changes are %q and lead to version %d", got, version)
	}
	if _, err := tableAt(t, b, "t", nil).Changes(ctx, nil, &tables.ChangesOptions{Keys: []string{"x"}}); !errors.As(err, new(*tables.SchemaError)) {
		t.Errorf("Changes with a missing key column: error %v, want a SchemaError", err)
	}
}

// TestChangesOfNewTable checks that the version and UUID of a deleted table do not select changes of a new table with
// the same name.
func TestChangesOfNewTable(t *testing.T) {
	ctx := t.Context()
	b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true}).Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 1)
	tabletest.Put(t, b, "t", tables.PutAppend, 2)
	tabletest.Snapshot(t, b, "s")
	r := must.Get(tableAt(t, b, "t", nil).Changes(ctx, nil, nil))(t)
	cursor, uuid := r.Version, r.UUID
	r.Release()
	must.Do(t, b.Table("t").Delete(ctx))
	for n := range int64(3) {
		tabletest.Put(t, b, "t", tables.PutAppend, n)
	}
	for name, c := range map[string]struct {
		since tables.At
		uuid  string
	}{"version": {tables.AtVersion(cursor), uuid}, "snapshot": {tables.AtSnapshot("s"), ""}, "no version": {nil, uuid}, "missing version": {tables.AtVersion(99), ""}} {
		if _, err := tableAt(t, b, "t", nil).Changes(ctx, c.since, &tables.ChangesOptions{UUID: c.uuid}); !errors.Is(err, tables.ErrNotFound) || !strings.Contains(err.Error(), "start again") {
			t.Errorf("changes since a %s of the deleted table: error %v, want ErrNotFound with advice", name, err)
		}
	}
	cursor = wantChanges(t, b, nil, nil, "0 row 0 insert; 1 row 1 insert; 2 row 2 insert")
	tabletest.Put(t, b, "t", tables.PutReplace, 1, 5)
	cursor = wantChanges(t, b, tables.AtVersion(cursor), nil, "0 row 0 delete; 2 row 2 delete; 5 row 5 insert")
	other := rowsOfJSON(t, `[{"x":1}]`, tabletest.Nullable("x", arrow.PrimitiveTypes.Int64))
	tabletest.PutRows(t, b, "t", other, tables.PutReplace, nil)
	if _, err := tableAt(t, b, "t", nil).Changes(ctx, tables.AtVersion(cursor), nil); !errors.Is(err, tables.ErrNotFound) || !strings.Contains(err.Error(), "start again") {
		t.Errorf("changes since the table was replaced with other columns: error %v, want ErrNotFound with advice", err)
	}
	must.Fail(t, must.Err((*tables.Table)(nil).Changes(ctx, nil, nil)), tables.ErrClosed, "changes of a nil table")
}

// TestChangesColumnName checks the name of the column that Changes adds if the table has columns named like it.
func TestChangesColumnName(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	putJSON(t, b, "t", `[{"_CHANGE":1,"_change_":2}]`, tabletest.Nullable("_CHANGE", arrow.PrimitiveTypes.Int64), tabletest.Nullable("_change_", arrow.PrimitiveTypes.Int64))
	r := must.Get(tableAt(t, b, "t", nil).Changes(t.Context(), nil, nil))(t)
	defer r.Release()
	if f := r.Schema().Field(2); r.Schema().NumFields() != 3 || f.Name != "_change__" {
		t.Errorf("the columns are %v, want a third one named _change__", r.Schema())
	}
}

// TestChangesWithEqualKeys checks that changed rows are not updates if their key occurs several times, and that all
// copies of a row are counted.
func TestChangesWithEqualKeys(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	many := tables.MaxChangedRows + 5
	fields := []arrow.Field{tabletest.Nullable("k", arrow.PrimitiveTypes.Int64), tabletest.Nullable("v", arrow.PrimitiveTypes.Int64)}
	put := func(mode tables.PutMode, rows ...string) {
		t.Helper()
		tabletest.PutRows(t, b, "t", rowsOfJSON(t, "["+strings.Join(rows, ",")+"]", fields...), mode, nil)
	}
	put(tables.PutAppend, `{"k":1,"v":1}`, `{"k":2,"v":1}`, `{"k":2,"v":2}`, `{"k":3,"v":3}`, `{"k":null,"v":1}`, `{"k":4,"v":1}`)
	first := wantChanges(t, b, nil, nil, "1 1 insert; 2 1 insert; 2 2 insert; 3 3 insert; 4 1 insert; null 1 insert")
	put(tables.PutReplace, append(slices.Repeat([]string{`{"k":1,"v":5}`}, many), `{"k":2,"v":3}`, `{"k":3,"v":1}`, `{"k":3,"v":2}`, `{"k":3,"v":4}`, `{"k":null,"v":2}`, `{"k":4,"v":1}`, `{"k":4,"v":1}`)...)
	want := "1 1 delete; " + strings.Repeat("1 5 insert; ", many) + "2 1 delete; 2 2 delete; 2 3 insert; 3 1 insert; 3 2 insert; 3 3 delete; 3 4 insert; 4 1 insert; null 1 update_before; null 2 update_after"
	if got, _ := changesText(t, tableAt(t, b, "t", nil), tables.AtVersion(first), &tables.ChangesOptions{Keys: []string{"k"}}); got != want {
		t.Errorf("got changes %.200s… (%d bytes), want %.200s… (%d bytes)", got, len(got), want, len(want))
	}
}

// TestChangesRead checks that finding the changes of an upsert, which replaces 1,000 rows in one of 100 files, reads at
// most about as many bytes as two files have.
func TestChangesRead(t *testing.T) {
	var bytesRead atomic.Int64
	s := openHooked(t, t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true}, tables.Hooks{FS: countingFS{vfs.OS{}, &bytesRead}})
	b := s.Bucket("")
	for i := range int64(100) {
		tabletest.PutRows(t, b, "t", longRows("old", 1, 2000*i, 2000), tables.PutAppend, nil)
	}
	tab := tableAt(t, b, "t", nil)
	info, err := tab.Info(t.Context())
	if err != nil || info.Files != 100 {
		t.Fatalf("the table has %d files, want 100; error: %v", info.Files, err)
	}
	must.Get(b.Table("t").Upsert(t.Context(), longRows("new", 1, 30_000, 1000), &tables.UpsertOptions{Keys: []string{"n"}}))(t)
	bytesRead.Store(0)
	text, _ := changesText(t, tab, tables.AtVersion(info.Version), nil)
	if n := strings.Count(text, "insert"); n != 1000 || strings.Count(text, "delete") != 1000 {
		t.Errorf("got %d inserts, want 1000 and as many deletes", n)
	}
	// The upsert writes two files, which together have as many rows as the file that they replace.
	if n, limit := bytesRead.Load(), 2*info.Bytes/100+16<<10; n == 0 || n > limit {
		t.Errorf("read %d bytes, want at most %d", n, limit)
	}
}

// longRows returns a reader of rows with consecutive numbers, and texts of the given number of hashes, which
// hardly compress and begin with prefix.
func longRows(prefix string, hashes int, first, count int64) array.RecordReader {
	b := array.NewRecordBuilder(memory.DefaultAllocator, tabletest.Numbers)
	for _, n := range tabletest.Sequence(first, count) {
		b.Field(0).(*array.Int64Builder).Append(n)
		text := prefix + " "
		for hash := range hashes {
			text += fmt.Sprintf("%x", sha256.Sum256([]byte(fmt.Sprint(n, hash))))
		}
		b.Field(1).(*array.StringBuilder).Append(text)
	}
	return tabletest.OneBatch(b.NewRecordBatch())
}

// TestChangesMemory checks that memory stays limited if all rows change in a table that is larger than Options.Memory.
func TestChangesMemory(t *testing.T) {
	const memoryLimit, fixed, rows = 32 << 20, 64 << 20, 200_000
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true, Memory: memoryLimit}).Bucket("")
	put := func(prefix string) {
		t.Helper()
		for i, mode := range append([]tables.PutMode{tables.PutReplace}, slices.Repeat([]tables.PutMode{tables.PutAppend}, 9)...) {
			tabletest.PutRows(t, b, "t", longRows(prefix, 5, rows/10*int64(i), rows/10), mode, nil)
		}
	}
	put("old")
	tab := tableAt(t, b, "t", nil)
	info := must.Get(tab.Info(t.Context()))(t)
	put("new")
	defer debug.SetGCPercent(debug.SetGCPercent(5)) // little garbage adds to the measured memory
	runtime.GC()
	peak := procs.TrackPeak(2*time.Millisecond, procs.Heap)
	r := must.Get(tab.Changes(t.Context(), tables.AtVersion(info.Version), &tables.ChangesOptions{Keys: []string{"n"}}))(t)
	defer r.Release()
	count := int64(0)
	for r.Next() {
		count += r.RecordBatch().NumRows()
	}
	growth := peak()
	if err := r.Err(); err != nil || count != 2*rows {
		t.Fatalf("got %d changes, want %d; error: %v", count, 2*rows, err)
	}
	t.Logf("peak of the heap: %d MiB", growth>>20)
	if growth > memoryLimit+fixed {
		t.Errorf("the heap grew by %d MiB, want at most %d MiB", growth>>20, (memoryLimit+fixed)>>20)
	}
}

// boolLists returns a reader of rows with a list of bools. A bool needs a bit in memory, but 2 bytes for the
// comparison.
func boolLists(rows, length int, value bool) array.RecordReader {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		tabletest.Nullable("n", arrow.PrimitiveTypes.Int64), tabletest.Nullable("bools", arrow.ListOf(arrow.FixedWidthTypes.Boolean)),
	}, nil))
	bools := slices.Repeat([]bool{value}, length)
	for i := range rows {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		list := b.Field(1).(*array.ListBuilder)
		list.Append(true)
		list.ValueBuilder().(*array.BooleanBuilder).AppendValues(bools, nil)
	}
	return tabletest.OneBatch(b.NewRecordBatch())
}

// TestChangesOfLists checks that batches stay small if their lists need much more memory for the comparison than
// before, and that a single row that needs too much is an error.
func TestChangesOfLists(t *testing.T) {
	const rows, length = 700, 4000
	b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, Memory: 32 << 20}).Bucket("")
	small := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, Memory: 1 << 20}).Bucket("")
	for i, mode := range []tables.PutMode{tables.PutAppend, tables.PutReplace} {
		tabletest.PutRows(t, b, "t", boolLists(rows, length, i == 1), mode, nil)
		tabletest.PutRows(t, small, "t", boolLists(1, 1<<18, i == 1), mode, nil)
	}
	read := int64(0)
	must.Do(t, b.Table("t").EncodeRows(t.Context(), 1, func(encoded batches.Seq) error {
		for batch, err := range encoded {
			if err != nil {
				return err
			}
			rest := batch.Column(int(batch.NumCols()) - 2).(*array.Binary)
			if n := len(rest.ValueBytes()); n > tables.MaxChangedBytes+2*length+100 {
				t.Errorf("the encodings of a batch have %d bytes, want at most about %d", n, tables.MaxChangedBytes)
			}
			read += batch.NumRows()
			batch.Release()
		}
		return nil
	}))
	if read != rows {
		t.Errorf("encoded %d rows, want %d", read, rows)
	}
	r := must.Get(small.Table("t").Changes(t.Context(), tables.AtVersion(1), nil))(t)
	defer r.Release()
	if r.Next() || !errors.Is(r.Err(), partd.ErrTooLarge) {
		t.Errorf("changes of a list that needs 512 KiB, with 1 MiB of memory: error = %v, want ErrTooLarge", r.Err())
	}
}

// TestChangesOfWideRows checks that many copies of a wide row are split into several batches.
func TestChangesOfWideRows(t *testing.T) {
	const count, width = 2000, 16 << 10
	b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true}).Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 1)
	wide := array.NewRecordBuilder(memory.DefaultAllocator, tabletest.Numbers)
	wide.Field(0).(*array.Int64Builder).AppendValues(make([]int64, count), nil)
	wide.Field(1).(*array.StringBuilder).AppendValues(slices.Repeat([]string{strings.Repeat("x", width)}, count), nil)
	tabletest.PutRows(t, b, "t", tabletest.OneBatch(wide.NewRecordBatch()), tables.PutReplace, nil)
	r := must.Get(b.Table("t").Changes(t.Context(), tables.AtVersion(1), nil))(t)
	defer r.Release()
	rows := int64(0)
	for r.Next() {
		rows += r.RecordBatch().NumRows()
		if n := datafile.SizeOf(r.RecordBatch()); n > 2*tables.MaxChangedBytes {
			t.Fatalf("a batch has %d bytes, want about %d", n, tables.MaxChangedBytes)
		}
	}
	if r.Err() != nil || rows != count+1 {
		t.Errorf("got %d changes, error %v; want %d", rows, r.Err(), count+1)
	}
}

// TestChangesWithFileTwice checks the changes of a table after another program has added the same file to it twice.
func TestChangesWithFileTwice(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 1)
	path := tabletest.FilesOf(t, b, "t")[0]
	tabletest.Put(t, b, "t", tables.PutReplace, 2)
	add := func() {
		foreignCommit(t, s, "t", func(tx *table.Transaction) error { return tx.AddFiles(t.Context(), []string{path}, nil, true) })
	}
	add()
	tabletest.Put(t, b, "t", tables.PutAppend, 3)
	add()
	wantChanges(t, b, tables.AtVersion(2), nil, "1 row 1 insert; 1 row 1 insert; 3 row 3 insert")
	wantChanges(t, b, tables.AtVersion(4), nil, "1 row 1 insert")
}
