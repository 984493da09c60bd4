package iceberg_test

import (
	"errors"
	"testing"

	icebergtypes "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/tablestest"
)

// TestPinned checks that Load and Stage reject a pinned or nil table, and that Commit rejects a nil store.
func TestPinned(t *testing.T) {
	ctx, store := t.Context(), tablestest.Open(t, nil)
	columns := icebergtypes.NewSchema(0, icebergtypes.NestedField{ID: 1, Name: "n", Type: icebergtypes.PrimitiveTypes.Int64})
	meta := must.Get(iceberg.NewMetadata(store, columns, icebergtypes.UnpartitionedSpec, table.UnsortedSortOrder, nil))(t)
	must.Get(iceberg.Commit(ctx, store, iceberg.Change{Bucket: "b", Table: "t", New: meta}))(t)
	b := store.Bucket("b")
	must.Get(b.Snapshot(ctx, "s"))(t)
	pinned := must.Get(b.Table("t").At(ctx, tables.AtSnapshot("s")))(t)
	load := func(table *tables.Table) error { _, err := iceberg.Load(ctx, table, nil); return err }
	stage := func(table *tables.Table) error { return iceberg.Stage(ctx, table, meta) }
	if err := load(b.Table("t")); err != nil {
		t.Errorf("Load: %v", err)
	}
	for _, c := range []struct {
		call  string
		err   error
		wants error
	}{
		{"Load of a pinned table", load(pinned), tables.ErrPinned},
		{"Stage of a pinned table", stage(pinned), tables.ErrPinned},
		{"Stage of an existing table", stage(b.Table("t")), tables.ErrExists},
		{"Load of a missing table", load(b.Table("missing")), tables.ErrNotFound},
		{"Load of a nil table", load(nil), tables.ErrClosed},
		{"Stage of a nil table", stage(nil), tables.ErrClosed},
		{"Commit to a nil store", func() error { _, err := iceberg.Commit(ctx, nil); return err }(), tables.ErrClosed},
	} {
		if !errors.Is(c.err, c.wants) {
			t.Errorf("%s: error = %v, want %v", c.call, c.err, c.wants)
		}
	}
}
