package tables_test

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestFoldOfForbiddenNulls checks what happens if another process makes a nested field required while the tail (rows not yet
// in data files) has nulls there. Each fold of the table fails, and names it; its rows can be read. Other tables are folded. After
// the field is optional again, a fold succeeds.
func TestFoldOfForbiddenNulls(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *tables.Store {
		return tabletest.Open(t, dir, &tables.Options{Tail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}, FoldAge: -1})
	}
	s, other := open(), open()
	b := s.Bucket("")
	setRequired := func(required bool) {
		t.Helper()
		base, err := other.Catalog().Load(t.Context(), tables.DefaultNamespace, "a")
		tabletest.Succeed(t, err)
		field := base.Schema().Field(0)
		list := *field.Type.(*iceberg.ListType)
		list.ElementRequired = required
		field.Type = &list
		meta, err := table.UpdateTableMetadata(base.Metadata(), []table.Update{
			table.NewAddSchemaUpdate(iceberg.NewSchema(base.Schema().ID+1, field)), table.NewSetCurrentSchemaUpdate(-1),
		}, "")
		tabletest.Succeed(t, err)
		tabletest.Succeed(t, other.Catalog().Commit(t.Context(), nil, &icecat.Change{Namespace: tables.DefaultNamespace, Name: "a", Base: base, New: meta, IOs: []*icecat.FileIO{other.Catalog().NewIO()}}))
	}
	put := func(rows string) {
		t.Helper()
		columns := arrow.NewSchema([]arrow.Field{{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64), Nullable: true}}, nil)
		batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, columns, strings.NewReader(rows))
		tabletest.Succeed(t, err)
		_, err = b.Table("a").Put(t.Context(), tabletest.OneBatch(batch), tables.PutAppend, nil)
		tabletest.Succeed(t, err)
	}
	put(`[{"l":[1]}]`)
	_, err := s.Fold(t.Context(), nil)
	tabletest.Succeed(t, err)
	put(`[{"l":[2,null,3]},{"l":[4]}]`)
	tabletest.Put(t, b, "good", tables.PutAppend, 1)
	setRequired(true)
	for range 2 {
		if _, err := s.Fold(t.Context(), nil); err == nil || !strings.Contains(err.Error(), `"a"`) || !strings.Contains(err.Error(), "l.element") {
			t.Fatalf("Fold error = %v, want an error that names the table and the field", err)
		}
	}
	const rows = " | [1] | [2,null,3] | [4]"
	if got := tabletest.TableText(t, b, "a", nil); !strings.HasSuffix(got, rows) {
		t.Errorf("the rows are %s, want %s", got, rows)
	}
	if n := s.Backlog().Rows; n != 2 {
		t.Errorf("%d rows are in the tail, want 2: those of the other table are folded", n)
	}
	setRequired(false)
	if _, err := s.Fold(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*tables.Store{s, other} {
		if got := tabletest.TableText(t, s.Bucket(""), "a", nil); !strings.HasSuffix(got, rows) {
			t.Errorf("after the fold, the rows are %s, want %s", got, rows)
		}
	}
}
