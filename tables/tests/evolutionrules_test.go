package tables_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestUniqueWhileWidening checks that a rule about all rows of a table, including rows not yet in
// data files, is also applied to puts and upserts that widen or add a column.
func TestUniqueWhileWidening(t *testing.T) {
	const oldColumns = "k int64; v int64; n int64"
	for _, columns := range []string{oldColumns + "; w utf8", "k int64; v float64; n int64", "k int64; v int64; n float64"} {
		for _, mode := range []string{"put", "upsert"} {
			for _, hasTail := range []bool{false, true} {
				t.Run(columns+"/"+mode, func(t *testing.T) {
					s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: !hasTail, FoldAge: -1})
					b := s.Bucket("b")
					first := tabletest.JSONRows(t, oldColumns, `{"k":1,"v":5,"n":1},{"k":2,"v":7,"n":1}`)
					tabletest.PutRows(t, b, "t", first, tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Evolution: tables.Flexible}})
					rule := tables.RuleEdit{Add: []tables.Rule{{Name: "u", Kind: "unique", Columns: []string{"v"}, InTable: true}}}
					if err := b.EditRules(t.Context(), rule); err != nil { // unlike a table's rule, a bucket's rule leaves the rows in the tail
						t.Fatal(err)
					}
					put := func(row string) (err error) {
						if mode == "upsert" {
							_, err = b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, row), &tables.UpsertOptions{Keys: []string{"k"}})
						} else {
							_, err = b.Table("t").Put(t.Context(), tabletest.JSONRows(t, columns, row), tables.PutAppend, nil)
						}
						return err
					}
					if err := put(`{"k":3,"v":7,"n":1}`); !errors.As(err, new(*tables.RuleError)) {
						t.Errorf("%s of a repeated value: error = %v, want a RuleError", mode, err)
					}
					if err := put(`{"k":3,"v":8,"n":1}`); err != nil {
						t.Fatal(err)
					}
					if got := tabletest.TableText(t, b, "t", nil); strings.Count(got, " | ") != 3 || !strings.HasPrefix(got, columns) {
						t.Errorf("table is %s, want columns %s and 3 rows", got, columns)
					}
				})
			}
		}
	}
}

// TestUniqueWithUncheckedTail widens a column and puts a row in one Update, while the tail has a row that a rule about
// all rows has not checked. The Update must fail with ErrConflict.
func TestUniqueWithUncheckedTail(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, "v int32", `{"v":7}`), tables.PutAppend, nil)
	if err := b.EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{{Name: "u", Kind: "unique", Columns: []string{"v"}, InTable: true}}}); err != nil {
		t.Fatal(err)
	}
	err := s.Update(t.Context(), func(x *tables.Txn) error {
		if err := x.Evolve("b", "t", tables.ColumnChange{Op: "widen", Column: "v", Type: "int64"}); err != nil {
			return err
		}
		return x.Put("b", "t", tabletest.JSONRows(t, "v int64", `{"v":7}`), tables.PutAppend, nil)
	})
	if !errors.Is(err, tables.ErrConflict) {
		t.Errorf("Update error = %v, want ErrConflict", err)
	}
	tabletest.WantText(t, b, "t", "v int32 | 7")
}

// TestNullTypeReplacedWithAnotherTail checks that no row is lost if typed values are put into a table whose only
// column has the null type, while another Store's tail has rows of the table.
func TestNullTypeReplacedWithAnotherTail(t *testing.T) {
	null := func() array.RecordReader {
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.Null, Nullable: true}}, nil))
		defer b.Release()
		b.Field(0).AppendNull()
		return tabletest.OneBatch(b.NewRecordBatch())
	}
	dir := t.TempDir()
	s, otherBucket := tabletest.Open(t, dir, &tables.Options{FoldAge: -1}), tabletest.Open(t, dir, &tables.Options{NoTail: true}).Bucket("b")
	b := s.Bucket("b")
	for range 2 {
		tabletest.PutRows(t, b, "t", null(), tables.PutAppend, nil)
	}
	tabletest.PutRows(t, otherBucket, "t", tabletest.JSONRows(t, "v utf8", `{"v":"x"}`), tables.PutAppend, nil)
	const want = "v utf8 | x | (null) | (null)"
	tabletest.WantText(t, b, "t", want)
	tabletest.Fold(t, s)
	tabletest.WantText(t, b, "t", want)
}
