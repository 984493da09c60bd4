package tables_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestSameIDDuringCommit commits a put, or the fold of a put, while another Store commits a put with the same ID. The
// rows must be added only once.
func TestSameIDDuringCommit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := tabletest.Open(t, dir, &tables.Options{NoTail: true})
	put := func(s *tables.Store, n int64) {
		t.Helper()
		tabletest.PutRows(t, s.Bucket(""), "a", tabletest.Rows(n), tables.PutAppend, &tables.PutOptions{ID: fmt.Sprint(n)})
	}
	put(other, 0)
	var next int64 // number of the row that the other Store puts next; 0 means that it puts none
	putOther := func() {
		if n := next; n > 0 {
			next = 0
			put(other, n)
		}
	}
	withTail := openHooked(t, dir, &tables.Options{Tail: partd.NewDict(), FoldAge: -1}, tables.Hooks{OnCommit: func(done bool) {
		if !done {
			putOther()
		}
	}})
	put(withTail, 1)
	next = 1
	must.Get(withTail.Fold(t.Context(), nil))(t)
	tabletest.WantRows(t, withTail.Bucket(""), "a", 0, 1)
	withoutTail := openHooked(t, dir, &tables.Options{NoTail: true}, tables.Hooks{OnPrepared: putOther})
	next = 2
	put(withoutTail, 2)
	tabletest.WantRows(t, withTail.Bucket(""), "a", 0, 1, 2)
}

func putWithID(id string, n ...int64) func(*tables.Txn) error {
	return func(x *tables.Txn) error {
		return x.Put("", "t", tabletest.Rows(n...), tables.PutAppend, &tables.PutOptions{ID: id})
	}
}

// TestPutIDs repeats a put ID after other changes. The repeated put adds its rows only if the table does not have the
// rows of the earlier put.
func TestPutIDs(t *testing.T) {
	t.Parallel()
	remove := func(x *tables.Txn) error { return x.Delete("", "t") }
	replace := func(x *tables.Txn) error { return x.Put("", "t", tabletest.Rows(3), tables.PutReplace, nil) }
	for name, c := range map[string]struct {
		firstID string                    // the ID of a put before the changes
		changes []func(*tables.Txn) error // changes of one Update, after which row 9 is put with the ID x
		want    []int64
	}{
		"twice in Update":        {"", []func(*tables.Txn) error{putWithID("x", 2), putWithID("x", 3)}, []int64{0, 1, 2}},
		"without rows":           {"", []func(*tables.Txn) error{putWithID("x")}, []int64{0, 1, 9}},
		"without rows, created":  {"", []func(*tables.Txn) error{remove, putWithID("x")}, []int64{9}},
		"put, delete, put":       {"", []func(*tables.Txn) error{putWithID("x", 2), remove, putWithID("y", 3)}, []int64{3, 9}},
		"put, delete, same put":  {"", []func(*tables.Txn) error{putWithID("x", 2), remove, putWithID("x", 3)}, []int64{3}},
		"before delete":          {"x", []func(*tables.Txn) error{remove, putWithID("y", 2)}, []int64{2, 9}},
		"before delete, replace": {"x", []func(*tables.Txn) error{remove, replace}, []int64{3, 9}},
		"before replace":         {"x", []func(*tables.Txn) error{replace}, []int64{3}},
	} {
		for _, noTail := range []bool{false, true} {
			b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: noTail, FoldAge: -1}).Bucket("")
			tabletest.Put(t, b, "t", tables.PutAppend, 0)
			put := func(id string, n int64) {
				t.Helper()
				tabletest.PutRows(t, b, "t", tabletest.Rows(n), tables.PutAppend, &tables.PutOptions{ID: id})
			}
			put(c.firstID, 1)
			must.Do(t, b.Store().Update(t.Context(), func(x *tables.Txn) (err error) {
				for _, change := range c.changes {
					err = errors.Join(err, change(x))
				}
				return err
			}))
			put("x", 9)
			if ns, _, err := tabletest.Read(t.Context(), b, "t"); err != nil || !slices.Equal(ns, c.want) {
				t.Errorf("%s, with NoTail %v: rows %v, error %v; want %v", name, noTail, ns, err, c.want)
			}
		}
	}
}

// afterFold is an Observer that calls f, if it is set, after the next fold.
type afterFold struct{ f func() }

func (o *afterFold) Begin(ctx context.Context, op tables.Operation) (context.Context, func(tables.Outcome)) {
	return ctx, func(tables.Outcome) {
		if f := o.f; op.Name == "fold" && f != nil {
			o.f = nil
			f()
		}
	}
}

// TestSkippedReplace skips a PutReplace, because its ID was already applied. Rows that were appended to the tail
// between the fold before the commit and the commit must remain.
func TestSkippedReplace(t *testing.T) {
	t.Parallel()
	o := &afterFold{}
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, Observer: o}).Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 0)
	o.f = func() { tabletest.Put(t, b, "t", tables.PutAppend, 1) }
	err := b.Store().Update(t.Context(), func(x *tables.Txn) error {
		return errors.Join(putWithID("x", 2)(x), x.Put("", "t", tabletest.Rows(3), tables.PutReplace, &tables.PutOptions{ID: "x"}))
	})
	if err != nil || o.f != nil {
		t.Fatalf("Update: %v; row 1 was put: %v", err, o.f == nil)
	}
	tabletest.WantRows(t, b, "t", 0, 1, 2)
	tabletest.Fold(t, b.Store())
	tabletest.WantRows(t, b, "t", 0, 1, 2)
}

// TestForeignSchema renames a column and drops another, as another program would, while rows are in the tail. These
// rows must be matched to the new columns by column ID, as rows in files are.
func TestForeignSchema(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	for range 2 {
		rows := tabletest.JSONRows(t, "old int64; gone int64", `{"old":1,"gone":2}`)
		tabletest.PutRows(t, b, "a", rows, tables.PutAppend, nil)
	}
	base := must.Get(s.Catalog().Load(t.Context(), tables.DefaultNamespace, "a"))(t)
	field := base.Schema().Field(0)
	field.Name = "n"
	foreignUpdate(t, b, "a", table.NewAddSchemaUpdate(iceberg.NewSchema(1, field)), table.NewSetCurrentSchemaUpdate(-1))
	tabletest.WantRows(t, b, "a", 1, 1)
	must.Do(t, s.Close())
	s = tabletest.Open(t, s.Dir(), &tables.Options{FoldAge: -1})
	tabletest.WantRows(t, s.Bucket(""), "a", 1, 1)
	tabletest.Fold(t, s)
	tabletest.WantRows(t, s.Bucket(""), "a", 1, 1)
}

// TestReplaceUnreadableTail replaces a table whose rows in the tail no longer fit, because another program has changed
// the type of a column. The rows must be gone.
func TestReplaceUnreadableTail(t *testing.T) {
	t.Parallel()
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1}).Bucket("")
	tabletest.Put(t, b, "a", tables.PutAppend, 1)
	columns := iceberg.NewSchema(1, iceberg.NestedField{ID: 3, Name: "n", Type: iceberg.PrimitiveTypes.Bool})
	foreignUpdate(t, b, "a", table.NewAddSchemaUpdate(columns), table.NewSetCurrentSchemaUpdate(-1))
	if _, _, err := tabletest.Read(t.Context(), b, "a"); err == nil {
		t.Fatal("the rows in the tail can be read, although the column has another type")
	}
	tabletest.Put(t, b, "a", tables.PutReplace, 2)
	tabletest.WantRows(t, b, "a", 2)
}

// TestSharedSchema checks that tables with the same columns share one schema in memory, because
// ten thousand copies of a wide schema would take too much memory.
func TestSharedSchema(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), nil)
	var schemas []*arrow.Schema
	for _, name := range []string{"a", "b"} {
		tabletest.Put(t, s.Bucket(""), name, tables.PutAppend, 1)
		tabletest.Put(t, s.Bucket(""), name, tables.PutAppend, 2)
		v := must.Get(s.Bucket("").Table(name).View(t.Context(), false))(t)
		schemas = append(schemas, v.Definition().Stored)
	}
	if schemas[0] != schemas[1] {
		t.Fatal("the tables have separate schemas in memory, want a shared one")
	}
}

// racedTail simulates another process that claims the tail between a listing and the next write.
type racedTail struct {
	*tabletest.MemTail
	otherID string
}

func (r *racedTail) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	all := r.MemTail.Keys(ctx)
	r.Values["partd-tables"] = []byte(r.otherID)
	return all
}

// TestTailIdentity simulates two processes that open a new tail concurrently. They must agree on the tail's ID,
// because the lock that excludes one of them and the record of folded rows both use the ID.
func TestTailIdentity(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := tabletest.Open(t, dir, &tables.Options{NoTail: true})
	first := uuid.NewString()
	tail := &racedTail{&tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}, s.Catalog().ID() + " " + first}
	for range 2 { // in the second round, the tail exists
		s := tabletest.Open(t, dir, &tables.Options{Tail: tail})
		if s.Tail().ID() != first {
			t.Fatalf("the tail's ID is %q, want %q", s.Tail().ID(), first)
		}
		must.Do(t, s.Close())
	}
}

// TestDirectoryRemoved simulates another process whose Expire removes an empty directory just before a
// put creates a file in it.
func TestDirectoryRemoved(t *testing.T) {
	t.Parallel()
	remaining := 2
	h := tables.Hooks{FS: vfstest.Inject(vfs.OS{}, func(op vfstest.Op, name string) error {
		if op == vfstest.OpOpen && remaining > 0 && strings.HasSuffix(name, ".parquet") {
			remaining--
			os.Remove(filepath.Dir(name)) //nolint:errcheck // the directory may not exist yet
		}
		return nil
	})}
	s := openHooked(t, t.TempDir(), nil, h)
	tabletest.Put(t, s.Bucket(""), "a", tables.PutAppend, 1)
	tabletest.WantRows(t, s.Bucket(""), "a", 1)
}

// TestNullTimesInAnotherTail checks that no rows are lost if a table gets a time column while another Store's tail
// (rows not yet in data files) contains acknowledged rows without a time.
func TestNullTimesInAnotherTail(t *testing.T) {
	dir := t.TempDir()
	a := tabletest.Open(t, dir, &tables.Options{NoTail: true, FoldAge: -1})
	b := tabletest.Open(t, dir, &tables.Options{Tail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}, FoldAge: -1})
	put := func(s *tables.Store, rows string) error {
		r := rowsOfJSON(t, rows, tickSchema.Fields()...)
		return must.Err(s.Bucket("b").Table("t").Put(t.Context(), r, tables.PutAppend, nil))
	}
	must.Do(t, put(a, `[{"ts":"2024-01-02 00:00:00Z","k":"a","v":1}]`))
	must.Do(t, put(b, `[{"ts":null,"k":"a","v":2},{"ts":"2024-01-01 00:00:00Z","k":"a","v":3}]`))
	must.Do(t, a.Bucket("b").Table("t").SetSettings(t.Context(), tables.Settings{Time: "ts", Partition: tables.PartitionDay, OnDuplicate: tables.KeepLast}))
	for range 2 {
		got, err := ticksFrom(b.Bucket("b").Table("t").Scan(t.Context(), nil))
		if err != nil || len(got) != 3 {
			t.Errorf("scan of store b returned rows %v, error %v; want 3 rows", got, err)
		}
		must.Get(b.Fold(t.Context(), nil))(t)
	}
	if got, err := ticksFrom(a.Bucket("b").Table("t").Scan(t.Context(), nil)); err != nil || len(got) != 3 {
		t.Errorf("scan of store a returned rows %v, error %v; want 3 rows", got, err)
	}
}

func TestSeveralPutsInTransaction(t *testing.T) {
	for rule, want := range map[tables.OnDuplicate]string{tables.KeepAll: "[{1 a 0} {1 a 1} {1 a 2} {1 a 3}]", tables.KeepFirst: "[{1 a 0}]", tables.KeepLast: "[{1 a 3}]", tables.RefuseDuplicate: "[{1 a 0}]"} {
		for _, created := range []bool{false, true} {
			s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
			o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts", OnDuplicate: rule}}
			if !created {
				tabletest.PutRows(t, s.Bucket("b"), "t", ticksOf([]tick{{1, "a", 0, 0}}, 1), tables.PutAppend, o)
			}
			err := s.Update(t.Context(), func(tx *tables.Txn) error {
				for v := range int64(4) {
					if v == 0 && !created {
						continue
					}
					if err := tx.Put("b", "t", ticksOf([]tick{{1, "a", v, 0}}, 1), tables.PutAppend, o); err != nil {
						return err
					}
				}
				return nil
			})
			if rule == tables.RefuseDuplicate {
				if !errors.As(err, new(*tables.DuplicateError)) {
					t.Errorf("created in the transaction: %v: Update error = %v, want a DuplicateError", created, err)
				}
				if created {
					continue
				}
			} else if err != nil {
				t.Errorf("%s, created in the transaction: %v: Update: %v", rule, created, err)
			}
			if got, err := ticksFrom(s.Bucket("b").Table("t").Scan(t.Context(), nil)); err != nil || fmt.Sprint(got) != want {
				t.Errorf("%s, created in the transaction: %v: got rows %v, want %s; error: %v", rule, created, got, want, err)
			}
		}
	}
}
