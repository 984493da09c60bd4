package tables_test

import (
	"errors"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestRestoreTablesFrom checks that a restore of single tables changes no others, and changes nothing if the backup lacks
// one of them.
func TestRestoreTablesFrom(t *testing.T) {
	t.Parallel()
	ctx, s, to := t.Context(), tabletest.Open(t, t.TempDir(), nil), tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("b")
	for _, name := range []string{"a", "deleted", "other"} {
		tabletest.Put(t, b, name, tables.PutAppend, 1)
	}
	_, err := s.Backup(ctx, to, "monday")
	tabletest.Succeed(t, err)
	for _, name := range []string{"a", "other", "later"} {
		tabletest.Put(t, b, name, tables.PutAppend, 2)
	}
	tabletest.Succeed(t, b.Delete(ctx, "deleted"))
	tabletest.Succeed(t, b.ChangeMetadata(ctx, tables.MetadataChange{Set: map[string]any{"k": "later"}}))
	want := func(a ...int64) {
		t.Helper()
		tabletest.WantRows(t, b, "a", a...)
		tabletest.WantRows(t, b, "other", 1, 2)
		tabletest.WantRows(t, b, "later", 2)
		if meta, err := b.Metadata(ctx); err != nil || meta["k"] != "later" {
			t.Errorf("the bucket's metadata is %v, %v, want that of after the backup", meta, err)
		}
	}
	if _, err := s.RestoreTablesFrom(ctx, to, "monday", "b", "a", "later"); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("restoring a table that the backup lacks: %v, want ErrNotFound", err)
	}
	_, err = s.RestoreTablesFrom(ctx, to, "monday", "b")
	tabletest.Succeed(t, err)
	want(1, 2)
	copied, err := s.RestoreTablesFrom(ctx, to, "monday", "b", "a", "deleted")
	if tabletest.Succeed(t, err); len(copied) != 2 {
		t.Errorf("RestoreTablesFrom reports %v, want two tables", copied)
	}
	want(1)
	tabletest.WantRows(t, b, "deleted", 1)
}
