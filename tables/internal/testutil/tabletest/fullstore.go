package tabletest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
)

// FullStore returns a store with various tables in two buckets, including rows in the tail,
// files with equal content, and several versions.
func FullStore(t testing.TB) *tables.Store {
	t.Helper()
	s := Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
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
	_, err := b.Table("plain").Put(ctx, Rows(1, 2, 3), tables.PutError, &tables.PutOptions{Metadata: tables.Metadata{"source": "feed", "lots": 100}})
	noError(err)
	for range 3 { // equal content in several files
		Put(t, b, "twice", tables.PutAppend, 7, 8)
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
		return OneBatch(batch)
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
	Put(t, s.Bucket(""), "default's", tables.PutAppend, 5)
	return s
}

// StateOf returns a store's visible state by bucket and table: rows in order, columns, settings, rules and metadata.
func StateOf(t testing.TB, s *tables.Store) map[string]string {
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

func WantState(t testing.TB, s *tables.Store, want map[string]string) {
	t.Helper()
	got := StateOf(t, s)
	for k := range want {
		if got[k] != want[k] {
			t.Errorf("state of %q:\n%s\nwant\n%s", k, got[k], want[k])
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d tables and buckets, want %d", len(got), len(want))
	}
}

func Totals(copied []tables.CopiedTable) (unchanged, files int) {
	for _, d := range copied {
		files += d.Files
		if d.Unchanged {
			unchanged++
		}
	}
	return unchanged, files
}

// BackupNames returns the name, the bucket and the number of tables of each backup in a store.
func BackupNames(t testing.TB, s *tables.Store) string {
	t.Helper()
	all, err := s.Backups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, b := range all {
		fmt.Fprintf(&text, "%s of %q: %d;", b.Name, b.Bucket, b.Tables)
	}
	return text.String()
}
