package tables_test

import (
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/tablestest"
)

// TestMissing checks the error of each operation on a table that does not exist.
func TestMissing(t *testing.T) {
	ctx := t.Context()
	s := tablestest.Open(t, nil)
	b := s.Bucket("b")
	putJSON(t, b, "trades", `[{"n":1}]`, arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64})
	missing := b.Table("tradse")
	for name, operation := range map[string]func() error{
		"describe":     func() error { _, err := missing.Info(ctx); return err },
		"schema":       func() error { _, err := missing.Schema(ctx); return err },
		"read":         func() error { _, err := missing.Scan(ctx, nil); return err },
		"version":      func() error { _, err := missing.At(ctx, tables.AtVersion(1)); return err },
		"moment":       func() error { _, err := missing.At(ctx, tables.AtTime(time.Now().Add(-time.Hour))); return err },
		"delete":       func() error { return missing.Delete(ctx) },
		"rename":       func() error { return missing.Rename(ctx, b, "new") },
		"delete names": func() error { return b.Delete(ctx, "tradse") },
		"metadata":     func() error { return missing.ChangeMetadata(ctx, tables.MetadataChange{}) },
		"fold": func() error {
			_, err := s.Fold(ctx, &tables.MaintainOptions{Buckets: []string{"b"}, Tables: []string{"tradse"}})
			return err
		},
	} {
		err := operation()
		if want := `tables: table "tradse" does not exist in bucket "b" (did you mean "trades"?)`; err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
		if !errors.Is(err, tables.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v does not wrap ErrNotFound and fs.ErrNotExist", name, err)
		}
	}
	_, err := s.Bucket("c").Metadata(ctx)
	if want := `tables: bucket "c" does not exist`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
