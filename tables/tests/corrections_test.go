package tables_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	icebergio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestUpsertKeys checks that Upsert replaces the right rows, for keys of every type that is allowed for keys.
func TestUpsertKeys(t *testing.T) {
	for _, typ := range []arrow.DataType{
		arrow.FixedWidthTypes.Boolean, arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64, arrow.PrimitiveTypes.Int64,
		arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.Binary, &arrow.FixedSizeBinaryType{ByteWidth: 3},
		arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Timestamp_ms, arrow.FixedWidthTypes.Timestamp_ns, arrow.FixedWidthTypes.Time64us,
		&arrow.Decimal128Type{Precision: 10, Scale: 2}, arrow.FixedWidthTypes.Duration_ms, &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String},
	} {
		t.Run(typ.String(), func(t *testing.T) {
			schema := arrow.NewSchema([]arrow.Field{{Name: "k", Type: typ, Nullable: true}, {Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
			rows := func(n int64, keys ...string) array.RecordReader {
				b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
				for _, k := range keys {
					must.Do(t, b.Field(0).AppendValueFromString(k))
					b.Field(1).(*array.Int64Builder).Append(n)
				}
				return tabletest.OneBatch(b.NewRecordBatch())
			}
			keys := []string{"1", "2", "3"}
			switch typ.ID() {
			case arrow.BOOL:
				keys = []string{"true", "false"}
			case arrow.BINARY:
				keys = []string{"AA==", "AAA=", "/w=="}
			case arrow.FIXED_SIZE_BINARY:
				keys = []string{"AAAA", "AAAB", "////"}
			case arrow.DATE32:
				keys = []string{"1960-01-01", "2000-01-01", "2024-02-29"}
			case arrow.TIMESTAMP:
				keys = []string{"1960-01-01 00:00:00Z", "2000-01-01 00:00:00.001Z", "2024-02-29 01:00:00Z"}
			case arrow.TIME64:
				keys = []string{"00:00:00", "01:00:00.000001", "23:00:00"}
			case arrow.DECIMAL128:
				keys = []string{"-1.00", "2.50", "3.25"}
			case arrow.DURATION:
				keys = []string{"1ms", "2ms", "3ms"}
			}
			b := tabletest.BucketWithoutTail(t)
			for _, k := range keys {
				if _, err := b.Table("t").Put(t.Context(), rows(1, k), tables.PutAppend, nil); err != nil {
					t.Skip(err)
				}
			}
			result, err := b.Table("t").Upsert(t.Context(), rows(2, keys[0], keys[len(keys)-1]), &tables.UpsertOptions{Keys: []string{"k"}})
			if err != nil || result.Deleted != 2 || result.Written != 2 {
				t.Fatalf("Upsert = %+v, %v; want Deleted 2 and Written 2", result, err)
			}
			got := tabletest.ColumnTexts(t, b, "t", "n")
			slices.Sort(got)
			if want := append(slices.Repeat([]string{"1"}, len(keys)-2), "2", "2"); !slices.Equal(got, want) {
				t.Errorf("column n is %q after the upsert, want %q", got, want)
			}
		})
	}
}

// TestUpsertManyKeysUnderRule checks that an upsert is refused if its keys do not fit in memory, and a rule compares
// rows with the table.
func TestUpsertManyKeysUnderRule(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, Memory: 1 << 20}).Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 1)
	rule := tables.Rule{Name: "u", Kind: "unique", Columns: []string{"s"}, InTable: true}
	must.Do(t, b.Table("t").EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{rule}}))
	keys := &tables.UpsertOptions{Keys: []string{"n"}}
	if _, err := b.Table("t").Upsert(t.Context(), tabletest.Rows(tabletest.Sequence(0, 20_000)...), keys); !errors.Is(err, partd.ErrTooLarge) {
		t.Errorf("Upsert of many keys: error = %v, want ErrTooLarge", err)
	}
	if _, err := b.Table("t").Upsert(t.Context(), tabletest.Rows(1, 2), keys); err != nil {
		t.Errorf("Upsert of two keys: %v", err)
	}
	tabletest.WantRows(t, b, "t", 1, 2)
}

// TestUpsertLongKeys checks that an upsert whose keys are in a temporary file ignores keys of the table that are too
// long for the sorter.
func TestUpsertLongKeys(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, Memory: 1 << 20}).Bucket("")
	keys := array.NewStringBuilder(memory.DefaultAllocator)
	read := func() array.RecordReader {
		a := keys.NewArray()
		return tabletest.OneBatch(array.NewRecordBatch(arrow.NewSchema([]arrow.Field{tabletest.Nullable("s", arrow.BinaryTypes.String)}, nil), []arrow.Array{a}, int64(a.Len())))
	}
	keys.AppendValues([]string{strings.Repeat("k", 1<<16), "7"}, nil)
	tabletest.PutRows(t, b, "t", read(), tables.PutAppend, nil)
	for i := range 20_000 {
		keys.Append(strconv.Itoa(i))
	}
	result, err := b.Table("t").Upsert(t.Context(), read(), &tables.UpsertOptions{Keys: []string{"s"}})
	if err != nil || result.Deleted != 1 || result.Written != 20_000 {
		t.Errorf("Upsert = %+v, %v; want Deleted 1 and Written 20000", result, err)
	}
}

// TestUpsertManyNullKeys checks an upsert with null keys in a temporary file.
func TestUpsertManyNullKeys(t *testing.T) {
	t.Parallel()
	const columns, count = "k utf8; l int64", 20_000
	b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, Memory: 1 << 20}).Bucket("")
	var texts []string
	for i := range count {
		texts = append(texts, fmt.Sprintf(`{"k":null,"l":%d}`, i))
	}
	texts = append(texts, `{"k":"","l":1}`, `{"k":null,"l":null}`)
	rows := strings.Join(texts, ",")
	tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, columns, rows+`,{"k":"a","l":null}`), tables.PutAppend, nil)
	o := &tables.UpsertOptions{Keys: []string{"k", "l"}, NullKeys: true}
	if result, err := b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, rows), o); err != nil || result.Deleted != count+2 || result.Written != count+2 {
		t.Errorf("Upsert = %+v, %v; want Deleted and Written %d", result, err, count+2)
	}
	if _, err := b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, rows+`,{"k":null,"l":null}`), o); err == nil || !strings.Contains(err.Error(), "have the same key: remove one") {
		t.Errorf("an upsert with the same null key twice: error %v", err)
	}
}

// TestUpsertMemory upserts PARTD_UPSERT_KEYS rows, half of which replace rows. It checks that memory stays below the
// default of Options.Memory. The keys of the default number of rows fit in memory.
func TestUpsertMemory(t *testing.T) {
	keys := int64(tabletest.Rounds(t, "PARTD_UPSERT_KEYS", 1_000_000))
	b := tabletest.BucketWithoutTail(t)
	columns := arrow.NewSchema([]arrow.Field{tabletest.Nullable("n", arrow.PrimitiveTypes.Int64), tabletest.Nullable("x", arrow.PrimitiveTypes.Float64)}, nil)
	// rows returns rows with the keys from first to first+keys-1, out of order.
	rows := func(first int64) array.RecordReader {
		return array.ReaderFromIter(columns, func(yield func(arrow.RecordBatch, error) bool) {
			const batchRows = 1 << 16
			for start := int64(0); start < keys; start += batchRows {
				builder := array.NewRecordBuilder(memory.DefaultAllocator, columns)
				for i := start; i < min(start+batchRows, keys); i++ {
					builder.Field(0).(*array.Int64Builder).Append(first + i*7_368_787%keys) // the prime makes the keys differ
					builder.Field(1).(*array.Float64Builder).Append(float64(i))
				}
				if !yield(builder.NewRecordBatch(), nil) {
					return
				}
			}
		})
	}
	start := time.Now()
	tabletest.PutRows(t, b, "t", rows(0), tables.PutAppend, nil)
	putTime := time.Since(start)
	runtime.GC()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	before, peak, done := live[0].Value.Uint64(), uint64(0), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case done <- true:
				return
			case <-time.After(5 * time.Millisecond):
				metrics.Read(live)
				peak = max(peak, live[0].Value.Uint64())
			}
		}
	}()
	start = time.Now()
	result, err := b.Table("t").Upsert(t.Context(), rows(keys/2), &tables.UpsertOptions{Keys: []string{"n"}})
	upsertTime := time.Since(start)
	<-done
	if err != nil || result.Written != keys || result.Deleted != keys-keys/2 {
		t.Fatalf("Upsert = %+v, %v; want Written %d and Deleted %d", result, err, keys, keys-keys/2)
	}
	t.Logf("%d keys: put %v, upsert %v, live heap %d MB", keys, putTime, upsertTime, (peak-before)>>20)
	if peak-before > 256<<20 {
		t.Errorf("the upsert used %d bytes, want at most %d", peak-before, 256<<20)
	}
}

// TestVectors checks that corrections of a table that asks for merge-on-read keep its data files, and write one
// deletion vector for each file with deleted rows, also if the whole file is deleted. Compact must apply the vectors.
// TestModel checks the rows.
func TestVectors(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("")
	for i := range int64(3) {
		tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(10*i, 10)...)
		tabletest.Fold(t, s)
	}
	e := tabletest.NewEngine(t, s, "", "t")
	e.MergeOnRead(3)
	before := tabletest.FilesOf(t, b, "t")
	want := func(vectors int, ns ...int64) {
		t.Helper()
		tabletest.WantRows(t, b, "t", ns...)
		n := 0
		for _, task := range e.Files() {
			n += len(task.DeletionVectorFiles)
		}
		if info, err := b.Table("t").Info(t.Context()); err != nil || n != vectors || info.Rows != int64(len(ns)) {
			t.Errorf("the table has %d vectors and %d rows, error %v; want %d and %d", n, info.Rows, err, vectors, len(ns))
		}
		tabletest.VerifyAll(t, s, tables.VerifyOptions{})
	}
	for range 2 { // the second upsert replaces the first one's vectors
		result, err := b.Table("t").Upsert(t.Context(), tabletest.Rows(5, 15, 200), &tables.UpsertOptions{Keys: []string{"n"}})
		if err != nil || result.Deleted < 2 || result.Written != 3 {
			t.Fatalf("Upsert = %+v, %v; want Deleted 2 or 3 and Written 3", result, err)
		}
	}
	tabletest.DeleteRows(t, b, "t", "n >= 20 and n < 30")
	if after := tabletest.FilesOf(t, b, "t"); !slices.Equal(after[:3], before) {
		t.Errorf("the files are %q, want the first three to stay %q", after, before)
	}
	rows := slices.Concat(tabletest.Sequence(0, 20), []int64{200})
	want(4, rows...) // for three old files, and for the file of the first upsert
	target := tabletest.Open(t, t.TempDir(), nil)
	must.Fail(t, must.Err(s.CopyTo(t.Context(), target)), "compact", "copying tables with vectors")
	tabletest.Compact(t, s)
	want(0, rows...)

	// Position delete files, which other programs wrote in format version 2, cannot be combined with vectors.
	tabletest.Put(t, b, "old", tables.PutAppend, tabletest.Sequence(0, 10)...)
	tabletest.Fold(t, s)
	e = tabletest.NewEngine(t, s, "", "old")
	e.MergeOnRead(2)
	e.Delete(iceberg.EqualTo(iceberg.Reference("n"), int64(3)))
	e.Commit(func(tx *table.Transaction) error { return tx.UpgradeFormatVersion(3) })
	tabletest.DeleteRows(t, b, "old", "n = 4")
	tabletest.WantRows(t, b, "old", 0, 1, 2, 5, 6, 7, 8, 9)
	if info, err := b.Table("old").Info(t.Context()); err != nil || info.Rows != 8 {
		t.Errorf("after a file with deletes was rewritten, the table has %d rows, error %v; want 8", info.Rows, err)
	}
}

// TestVectorsTooLarge checks that files are rewritten if the numbers of the rows to delete need too much memory.
func TestVectorsTooLarge(t *testing.T) {
	const count = 9 << 17 // the numbers may need 1/8 of the memory, with one bit for each row
	s := tabletest.Open(t, t.TempDir(), &tables.Options{Memory: 1 << 20})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(0, count)...)
	tabletest.NewEngine(t, s, "", "t").MergeOnRead(3)
	tabletest.DeleteRows(t, b, "t", "n >= 2")
	tabletest.WantRows(t, b, "t", 0, 1)
}

// TestRowCountAfterForeignDeletes replaces a table's rows after another program deleted some by position. The deletes
// do not apply to the new rows, although the snapshot still counts them.
func TestRowCountAfterForeignDeletes(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(0, 10)...)
	e := tabletest.NewEngine(t, s, "", "t")
	e.MergeOnRead(2)
	e.Delete(iceberg.LessThan(iceberg.Reference("n"), int64(5)))
	tabletest.Put(t, b, "t", tables.PutReplace, 100, 101)
	tabletest.WantRows(t, b, "t", 100, 101)
	if info, err := b.Table("t").Info(t.Context()); err != nil || info.Rows != 2 {
		t.Errorf("Info reports %d rows, error %v; want 2", info.Rows, err)
	}
}

// miscounting is an engine whose snapshots have no totals, or wrong ones, as DuckDB 1.5 writes them.
type miscounting struct {
	tabletest.Engine
	noTotals bool
}

func (m miscounting) CommitTable(ctx context.Context, ident table.Identifier, r []table.Requirement, u []table.Update) (table.Metadata, string, error) {
	text, err := json.Marshal(u)
	if err != nil {
		return nil, "", err
	}
	var changed table.Updates
	text = regexp.MustCompile(`"total-(position-deletes|delete-files)":"[0-9]+"`).ReplaceAll(text, []byte(`"total-$1":"9","partd.rows":"77"`))
	if m.noTotals {
		text = bytes.ReplaceAll(text, []byte(`"total-`), []byte(`"no-total-`))
	}
	if err := json.Unmarshal(text, &changed); err != nil {
		return nil, "", err
	}
	return m.Engine.CommitTable(ctx, ident, r, changed)
}

func (m miscounting) delete(t *testing.T, where iceberg.BooleanExpression) {
	t.Helper()
	loaded := must.Get(m.LoadTable(t.Context(), table.Identifier{"", "t"}))(t)
	loaded = table.New(loaded.Identifier(), loaded.Metadata(), loaded.MetadataLocation(), icebergio.LoadFSFunc(nil, loaded.MetadataLocation()), m)
	tx := loaded.NewTransaction()
	must.Do(t, tx.Delete(t.Context(), where, nil))
	must.Get(tx.Commit(t.Context()))(t)
}

// TestRowCountsWithDeleteFiles checks that the number of rows is exact or marked as a maximum while delete files of
// another program apply, whatever the totals of its snapshots are.
func TestRowCountsWithDeleteFiles(t *testing.T) {
	t.Parallel()
	for version, engineRows := range map[int]string{2: "10 at most, 10 at most", 3: "6 exactly, 5 exactly"} {
		t.Run(fmt.Sprint("format version ", version), func(t *testing.T) {
			dir := t.TempDir()
			s := tabletest.Open(t, dir, nil)
			b := s.Bucket("")
			counts := func(b *tables.Bucket) string {
				t.Helper()
				text := func(rows int64, atMost tables.AtMost) string {
					return fmt.Sprint(rows, map[tables.AtMost]string{true: " at most", false: " exactly"}[atMost])
				}
				info := must.Get(b.Table("t").Info(t.Context()))(t)
				versions := must.Get(b.Table("t").Versions(t.Context()))(t)
				newest := versions[len(versions)-1]
				at := must.Get(must.Get(b.Table("t").At(t.Context(), tables.AtVersion(newest.Version)))(t).Info(t.Context()))(t)
				for listed, err := range b.Tables(t.Context(), nil) {
					if err != nil || text(listed.Rows, listed.AtMost) != text(info.Rows, info.AtMost) {
						t.Errorf("Tables yields %+v, error %v; want the rows of Info, %+v", listed, err, info)
					}
				}
				if got := text(newest.Rows, newest.AtMost); got != text(info.Rows, info.AtMost) || got != text(at.Rows, at.AtMost) {
					t.Errorf("the newest version has %s rows, or %s; want Info's, %+v", got, text(at.Rows, at.AtMost), info)
				}
				return text(info.Rows, info.AtMost)
			}
			tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(0, 10)...)
			tabletest.Fold(t, s)
			if got := counts(b); got != "10 exactly" {
				t.Errorf("before the deletes, there are %s rows", got)
			}
			engine := miscounting{tabletest.NewEngine(t, s, "", "t"), false}
			engine.MergeOnRead(version)
			engine.delete(t, iceberg.LessThan(iceberg.Reference("n"), int64(4)))
			got := counts(b)
			engine.delete(t, iceberg.EqualTo(iceberg.Reference("n"), int64(4)))
			if got += ", " + counts(b); got != engineRows {
				t.Errorf("after the deletes, there are %s rows; want %s", got, engineRows)
			}
			must.Get(b.Snapshot(t.Context(), "s"))(t)
			tabletest.Put(t, b, "t", tables.PutAppend, 20, 21) // 20 and 21 are in the tail
			appended := map[int]string{2: "12 at most", 3: "7 exactly"}[version]
			if got := counts(b); got != appended {
				t.Errorf("after an append, there are %s rows; want %s", got, appended)
			}
			tabletest.Fold(t, s)
			if got := counts(b); got != appended {
				t.Errorf("after the fold, there are %s rows; want %s", got, appended)
			}
			must.Do(t, s.Close())
			s = tabletest.Open(t, dir, nil)
			if got := counts(s.Bucket("")); got != appended {
				t.Errorf("after a restart, there are %s rows; want %s", got, appended)
			}
			for info, err := range s.Bucket("").Tables(t.Context(), &tables.Filter{Snapshot: "s"}) {
				if err != nil || bool(info.AtMost) != (version == 2) || info.Rows != map[int]int64{2: 10, 3: 5}[version] {
					t.Errorf("the snapshot lists %+v, error %v; want the rows before the append", info, err)
				}
			}
			tabletest.Compact(t, s)
			if got := counts(s.Bucket("")); got != "7 exactly" {
				t.Errorf("after a compaction, there are %s rows; want 7", got)
			}
			tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 22)
			tabletest.Fold(t, s)
			if got := counts(s.Bucket("")); got != "8 exactly" {
				t.Errorf("after a later append, there are %s rows; want 8", got)
			}
		})
	}
}

// TestRowCountsWithoutTotals checks the numbers of rows after the commits of an engine whose snapshots have no totals.
// The library then begins the totals of the next snapshot at 0.
func TestRowCountsWithoutTotals(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(0, 10)...)
	tabletest.Fold(t, s)
	miscounting{tabletest.NewEngine(t, s, "", "t"), true}.delete(t, iceberg.LessThan(iceberg.Reference("n"), int64(4)))
	for _, want := range []int64{7, 8} {
		tabletest.Put(t, b, "t", tables.PutAppend, want)
		tabletest.Fold(t, s)
		if info := must.Get(b.Table("t").Info(t.Context()))(t); info.Rows != want || info.AtMost {
			t.Errorf("after an append, there are %d rows, at most: %v; want exactly %d", info.Rows, info.AtMost, want)
		}
	}
}

// TestRowCountIsKept checks that the snapshot of an engine with delete files has its number of rows, so that an append
// does not read all manifests.
func TestRowCountIsKept(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(0, 10)...)
	engine := tabletest.NewEngine(t, s, "", "t")
	engine.MergeOnRead(2)
	engine.Delete(iceberg.LessThan(iceberg.Reference("n"), int64(4)))
	for _, want := range []string{"<=10", "<=11"} {
		if got := must.Get(engine.LoadTable(t.Context(), nil))(t).CurrentSnapshot().Summary.Properties["partd.rows"]; got != want {
			t.Errorf("the snapshot has the number of rows %q, want %q", got, want)
		}
		tabletest.Put(t, b, "t", tables.PutAppend, 20)
	}
}
