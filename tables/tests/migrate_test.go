package tables_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// negateColumn returns a migration that replaces column "n" by a column "minus" of the negated values, and drops
// column "s". The migration counts its calls in *calls.
func negateColumn(calls *int) func(arrow.RecordBatch) (arrow.RecordBatch, error) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "minus", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	return func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		*calls++
		minus, err := compute.CallFunction(context.Background(), "negate", nil, compute.NewDatumWithoutOwning(b.Column(0)))
		if err != nil {
			return nil, err
		}
		defer minus.Release()
		return array.NewRecordBatch(schema, []arrow.Array{minus.(*compute.ArrayDatum).MakeArray()}, b.NumRows()), nil
	}
}

func TestMigrate(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 1, 2)
	tabletest.Fold(t, s)
	tabletest.Put(t, b, "t", tables.PutAppend, 3)
	calls := 0
	if migrated, err := b.Table("t").Migrate(t.Context(), 2, negateColumn(&calls)); !migrated || err != nil {
		t.Fatalf("Migrate = %+v, %v; want true", migrated, err)
	}
	tabletest.WantText(t, b, "t", "minus int64 | -1 | -2 | -3")
	tabletest.WantText(t, b, "t", "n int64; s utf8 | 1,row 1 | 2,row 2", tables.AtVersion(1))
	calls = 0
	for _, version := range []int{1, 2} {
		if migrated, err := b.Table("t").Migrate(t.Context(), version, negateColumn(&calls)); migrated || calls > 0 || err != nil {
			t.Errorf("Migrate to version %d (not newer) = %v, %v, with %d calls; want false, nil, and no calls", version, migrated, err, calls)
		}
	}
	table := b.Table("t")
	if v, err := table.SchemaVersion(t.Context()); v != 2 || err != nil {
		t.Errorf("SchemaVersion = %+v, %v; want 2", v, err)
	}
	errBroken := errors.New("broken")
	if migrated, err := b.Table("t").Migrate(t.Context(), 3, func(arrow.RecordBatch) (arrow.RecordBatch, error) { return nil, errBroken }); migrated || !errors.Is(err, errBroken) {
		t.Errorf("Migrate = %+v, %v; want false and errBroken", migrated, err)
	}
	tabletest.WantText(t, b, "t", "minus int64 | -1 | -2 | -3")
	if _, err := b.Table("none").Migrate(t.Context(), 1, negateColumn(&calls)); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("Migrate of a missing table: error = %v, want ErrNotFound", err)
	}
	// A table without rows is also migrated to the new columns.
	tabletest.PutRows(t, b, "empty", tabletest.Rows(), tables.PutAppend, nil)
	if migrated, err := b.Table("empty").Migrate(t.Context(), 1, negateColumn(&calls)); !migrated || err != nil {
		t.Fatalf("Migrate = %+v, %v; want true", migrated, err)
	}
	tabletest.WantText(t, b, "empty", "minus int64")
}

// TestEvolveDuringAppends changes a table's columns while rows are appended to the tail: no
// row is lost or duplicated, and no value ends up in another column.
func TestEvolveDuringAppends(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1}).Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 0)
	var writers sync.WaitGroup
	var rows int64 = 1
	stop := make(chan struct{})
	writers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, err := b.Table("t").Put(t.Context(), tabletest.Rows(rows), tables.PutAppend, nil)
			if err == nil {
				rows++
			} else if !errors.As(err, new(*tables.SchemaError)) { // column s currently has another name
				t.Errorf("Put error = %v, want nil or a SchemaError", err)
				return
			}
		}
	})
	for range tabletest.Rounds(t, "PARTD_EVOLVE_ROUNDS", 6) {
		for _, c := range []tables.ColumnChange{{Op: "rename", Column: "s", To: "n2"}, {Op: "add", Column: "s", Type: "utf8"}, {Op: "drop", Column: "s"}, {Op: "rename", Column: "n2", To: "s"}} {
			must.Do(t, b.Table("t").Evolve(t.Context(), c))
		}
		version := must.Get(b.Table("t").SchemaVersion(t.Context()))(t)
		if migrated, err := b.Table("t").Migrate(t.Context(), version+1, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return b, nil }); !migrated || err != nil {
			t.Fatalf("Migrate = %+v, %v; want true", migrated, err)
		}
	}
	close(stop)
	writers.Wait()
	got := tabletest.TableText(t, b, "t", nil)
	seen := map[string]int{}
	for _, line := range strings.Split(got, " | ")[1:] {
		n, _, _ := strings.Cut(line, ",")
		seen[n]++
		// The text of a row put into the temporary column s was dropped with that column.
		if !strings.HasSuffix(line, ",(null)") && !strings.HasSuffix(line, ",row "+n) {
			t.Fatalf("row %q has unexpected text", line)
		}
	}
	for n, count := range seen {
		if count != 1 {
			t.Errorf("row %s occurs %d times, want 1", n, count)
		}
	}
	if int64(len(seen)) != rows {
		t.Errorf("got %d rows, want %d", len(seen), rows)
	}
}

// TestChangeWithAnotherTail changes the columns of a table, or replaces it, while another Store's tail contains rows with
// the old columns. Those rows must get the new columns.
func TestChangeWithAnotherTail(t *testing.T) {
	for name, c := range map[string]struct {
		columns, first, second string // the second row is in the tail
		change                 func(*tables.Table) error
		want, wantSecond       string
	}{
		"evolve": {"a int16; b utf8; c int32", `{"a":1,"b":"x","c":1}`, `{"a":2,"b":"y","c":2}`, func(table *tables.Table) error {
			return table.Evolve(t.Context(), tables.ColumnChange{Op: "widen", Column: "a", Type: "float64"}, tables.ColumnChange{Op: "rename", Column: "b", To: "text"},
				tables.ColumnChange{Op: "drop", Column: "c"}, tables.ColumnChange{Op: "add", Column: "c", Type: "int32"})
		}, "a float64; text utf8; c int32 | 1,x,(null)", " | 2,y,(null)"},
		"replace": {"a int16; c int32", `{"a":1,"c":1}`, `{"a":2,"c":2}`, func(table *tables.Table) error {
			return must.Err(table.Put(t.Context(), tabletest.JSONRows(t, "a int16; d utf8", `{"a":3,"d":"x"}`), tables.PutReplace, nil))
		}, "a int16; d utf8 | 3,x", " | 2,(null)"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := tabletest.Open(t, dir, &tables.Options{FoldAge: -1, NoTail: true}).Bucket("")
			withTail := tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
			tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, c.columns, c.first), tables.PutAppend, nil)
			tabletest.PutRows(t, withTail.Bucket(""), "t", tabletest.JSONRows(t, c.columns, c.second), tables.PutAppend, nil)
			must.Do(t, c.change(b.Table("t")))
			tabletest.WantText(t, b, "t", c.want)
			tabletest.WantText(t, withTail.Bucket(""), "t", c.want+c.wantSecond)
			tabletest.Fold(t, withTail)
			tabletest.WantText(t, b, "t", c.want+c.wantSecond)
		})
	}
}
