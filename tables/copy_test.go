package tables_test

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// fullStore returns a store with various tables in two buckets, including rows in the tail,
// files with equal content, and several versions.
func fullStore(t testing.TB) *tables.Store {
	t.Helper()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	ctx, b := t.Context(), s.Bucket("one")
	noError := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fold := func() {
		t.Helper()
		_, err := s.Fold(ctx, nil)
		noError(err)
	}
	_, err := b.Table("plain").Put(ctx, tabletest.Rows(1, 2, 3), tables.PutError, &tables.PutOptions{Metadata: tables.Metadata{"source": "feed", "lots": 100}})
	noError(err)
	for range 3 { // equal content in several files
		tabletest.Put(t, b, "twice", tables.PutAppend, 7, 8)
		fold()
	}
	keys := []arrow.Field{
		{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "America/New_York"}},
		{Name: "sym", Type: arrow.BinaryTypes.String},
		{Name: "price", Type: &arrow.Decimal128Type{Precision: 12, Scale: 3}, Nullable: true},
	}
	series := func(rows string) array.RecordReader {
		batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, arrow.NewSchema(keys, nil), strings.NewReader(rows))
		noError(err)
		return tabletest.OneBatch(batch)
	}
	for i, rows := range []string{
		`[{"at":"2024-01-02 10:00:00Z","sym":"a","price":"1.5"},{"at":"2024-02-02 10:00:00Z","sym":"b","price":"-2.125"}]`,
		`[{"at":"2024-01-02 10:00:00Z","sym":"a","price":"9.999"},{"at":"2024-03-02 10:00:00Z","sym":"c","price":null}]`,
	} {
		o := &tables.PutOptions{Settings: &tables.Settings{Time: "at", Keys: []string{"sym"}, OnDuplicate: tables.KeepLast}}
		_, err := b.Table("series").Put(ctx, series(rows), tables.PutAppend, o)
		noError(err)
		if i == 0 {
			fold()
			_, err := b.Table("series").Partition(ctx, tables.PartitionMonth)
			noError(err)
		}
	}
	noError(b.Table("series").EditRules(ctx, tables.RuleEdit{Add: []tables.Rule{{Name: "named", Kind: "not_null", Column: "sym"}}}))
	noError(b.EditRules(ctx, tables.RuleEdit{Add: []tables.Rule{{Name: "few", Kind: "range", Column: "n", Max: "1000000"}}}))
	noError(b.ChangeMetadata(ctx, tables.MetadataChange{Set: tables.Metadata{"country": "US"}}))
	tabletest.Put(t, s.Bucket(""), "default's", tables.PutAppend, 5)
	return s
}

// stateOf returns a store's visible state by bucket and table: rows in order, columns, settings, rules and metadata.
func stateOf(t testing.TB, s *tables.Store) map[string]string {
	t.Helper()
	ctx := t.Context()
	states := map[string]string{}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for bucket, err := range s.Buckets(ctx) {
		check(err)
		b := s.Bucket(bucket)
		meta, err := b.Metadata(ctx)
		check(err)
		rules, err := b.Rules(ctx)
		check(err)
		states[bucket+"/"] = fmt.Sprint(meta, rules)
		for info, err := range b.Tables(ctx, nil) {
			check(err)
			table := b.Table(info.Name)
			schema, err := table.Schema(ctx)
			check(err)
			settings, err := table.Settings(ctx)
			check(err)
			rules, err := b.Table(info.Name).Rules(ctx)
			check(err)
			delete(info.Metadata, tables.UpdatedKey)
			r, err := table.Scan(ctx, &tables.ScanOptions{Dictionaries: true})
			check(err)
			var rows strings.Builder
			for r.Next() {
				batch := r.RecordBatch()
				for i := range int(batch.NumRows()) {
					for _, c := range batch.Columns() {
						rows.WriteString(c.ValueStr(i) + ",")
					}
					rows.WriteByte('\n')
				}
			}
			check(r.Err())
			r.Release()
			states[bucket+"/"+info.Name] = fmt.Sprintf("%d rows\n%v\n%+v\n%+v\n%v\n%s", info.Rows, schema, settings, rules, info.Metadata, &rows)
		}
	}
	return states
}

func wantState(t testing.TB, s *tables.Store, want map[string]string) {
	t.Helper()
	got := stateOf(t, s)
	for k := range want {
		if got[k] != want[k] {
			t.Errorf("state of %q:\n%s\nwant\n%s", k, got[k], want[k])
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d tables and buckets, want %d", len(got), len(want))
	}
}

func totals(copied []tables.CopiedTable) (unchanged, files int) {
	for _, d := range copied {
		files += d.Files
		if d.Unchanged {
			unchanged++
		}
	}
	return unchanged, files
}

func TestCopyTo(t *testing.T) {
	t.Parallel()
	ctx, source := t.Context(), fullStore(t)
	dest := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	want := stateOf(t, source)
	copied, err := source.CopyTo(ctx, dest)
	if err != nil {
		t.Fatal(err)
	}
	wantState(t, dest, want)
	for _, d := range copied {
		sum, err := dest.Bucket(d.Bucket).Table(d.Name).Checksum(ctx, nil)
		if err != nil || sum.String() != d.Checksum || sum.Rows != d.Rows || d.Rows == 0 {
			t.Errorf("checksum of the copied table = %+v, error %v; want that of %+v", sum, err, d)
		}
	}
	if unchanged, files := totals(copied); unchanged != 0 || files < 7 || len(copied) != 4 {
		t.Errorf("CopyTo = %+v, want 4 tables, no unchanged files and at least 7 copied files", copied)
	}
	// After a change to one table, another copy copies only that table's new file.
	tabletest.Put(t, source.Bucket("one"), "twice", tables.PutAppend, 9)
	copied, err = source.CopyTo(ctx, dest)
	if unchanged, files := totals(copied); err != nil || unchanged != 3 || files != 1 {
		t.Errorf("CopyTo = %+v, %v; want 3 unchanged tables and one copied file", copied, err)
	}
	wantState(t, dest, stateOf(t, source))
	for _, s := range []*tables.Store{source, dest} {
		if snapshots, err := s.Bucket("one").Snapshots(ctx); err != nil || len(snapshots) > 0 {
			t.Errorf("Snapshots = %+v, %v; want none", snapshots, err)
		}
	}
	// If the destination has changed, another copy fails, and does not overwrite the change.
	tabletest.Put(t, dest.Bucket("one"), "plain", tables.PutAppend, 44)
	before := stateOf(t, dest)
	if _, err = source.CopyTo(ctx, dest); !errors.Is(err, tables.ErrExists) || !strings.Contains(err.Error(), "plain") {
		t.Errorf(`CopyTo error = %v, want ErrExists with the text "plain"`, err)
	}
	wantState(t, dest, before)
	if _, err := source.CopyTo(ctx, source); err == nil {
		t.Error("CopyTo of a store to itself succeeded, want an error")
	}
	otherSource := tabletest.Open(t, t.TempDir(), nil)
	tabletest.Put(t, otherSource.Bucket("one"), "twice", tables.PutAppend, 1)
	if _, err = otherSource.CopyTo(ctx, dest); !errors.Is(err, tables.ErrExists) { // the table there is another store's copy
		t.Errorf("CopyTo to another store's copy: error = %v, want ErrExists", err)
	}
	missing := "missing"
	if _, err = otherSource.CopyTo(ctx, dest, missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("CopyTo of a missing bucket: error = %v, want fs.ErrNotExist", err)
	}
}

// TestCopyToConcurrentPut checks that rows put into the destination during the copy are not lost.
func TestCopyToConcurrentPut(t *testing.T) {
	t.Parallel()
	ctx, source := t.Context(), fullStore(t)
	var dest *tables.Store
	hasPut := false
	h := tables.Hooks{FS: vfs.OS{}, OnPrepared: func() {
		if !hasPut {
			hasPut = true
			tabletest.Put(t, dest.Bucket("one"), "plain", tables.PutAppend, 44)
		}
	}}
	dest, err := tables.OpenHooked(ctx, t.TempDir(), &tables.Options{NoTail: true}, h)
	if err != nil {
		t.Fatal(err)
	}
	bucket := "one"
	if _, err := source.CopyTo(ctx, dest, bucket); !hasPut || !errors.Is(err, tables.ErrConflict) {
		t.Errorf("CopyTo with a concurrent put (called: %v): error = %v, want ErrConflict", hasPut, err)
	}
	tabletest.WantRows(t, dest.Bucket("one"), "plain", 44)
	if err := dest.Close(); err != nil {
		t.Error(err)
	}
}

// TestCopyToInterrupted checks that a copy that fails at any file system operation leaves no partly copied bucket, and
// that the next copy resumes it.
func TestCopyToInterrupted(t *testing.T) {
	t.Parallel()
	ctx, source := t.Context(), fullStore(t)
	want := stateOf(t, source)
	dir := t.TempDir()
	errInterrupted, sent := errors.New("interrupted"), 0
	for attempt := 1; ; attempt++ {
		var ops atomic.Int64
		dest, err := tables.OpenHooked(ctx, dir, &tables.Options{NoTail: true}, tables.Hooks{FS: vfstest.Inject(vfs.OS{}, func(op vfstest.Op, name string) error {
			if op.Changes() && strings.Contains(name, "/data/") {
				if ops.Add(1) > int64(3*attempt) { // the clean-up also fails
					return errInterrupted
				}
			}
			return nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		copied, copyErr := source.CopyTo(ctx, dest)
		ops.Store(-1 << 40)
		_, files := totals(copied)
		sent += files
		for name, state := range stateOf(t, dest) {
			if strings.HasPrefix(name, "one/") && state != want[name] && state != "map[] []" {
				t.Fatalf("failure in attempt %d: the state of %q is %s, want the source's state or an empty one", attempt, name, state)
			}
		}
		if copyErr == nil {
			wantState(t, dest, want)
		}
		if err := dest.Close(); err != nil {
			t.Fatal(err)
		}
		if copyErr == nil {
			break
		}
		if !errors.Is(copyErr, errInterrupted) || attempt > 100 {
			t.Fatalf("attempt %d: CopyTo error = %v, want the injected error and success within 100 attempts", attempt, copyErr)
		}
	}
	if sent > 8 {
		t.Errorf("sent %d files, want at most 8", sent)
	}
	if !reflect.DeepEqual(want, stateOf(t, source)) {
		t.Error("the copy changed the source")
	}
}
