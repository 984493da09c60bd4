package tables_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestExpireFailedTable checks that Expire removes unused files even if the commit to one table fails, and keeps all files
// that this table needs.
func TestExpireFailedTable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for _, name := range []string{"bad", "good", "deleted"} {
		tabletest.Put(t, b, name, tables.PutAppend, 1)
		tabletest.Put(t, b, name, tables.PutReplace, 2)
	}
	if err := b.Delete(ctx, "deleted"); err != nil {
		t.Fatal(err)
	}
	tabletest.ExecInCatalog(t, s.Dir(), `CREATE TRIGGER fail BEFORE UPDATE ON iceberg_tables WHEN OLD.table_name='bad' BEGIN SELECT RAISE(ABORT, 'no space'); END`)
	r, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1})
	if err == nil || errors.Is(err, tables.ErrDamaged) || !strings.Contains(err.Error(), `"bad"`) || strings.Contains(err.Error(), "good") {
		t.Errorf("Expire error = %v, want an error about bad", err)
	}
	if r.Tables != 1 || r.Versions != 1 || r.FilesRemoved < 2 {
		t.Errorf("Expire = %+v, want Tables 1, Versions 1 and removed files", r)
	}
	if old, err := b.Table("bad").At(ctx, tables.AtVersion(1)); err != nil {
		t.Error(err)
	} else if got, err := tabletest.ReadAll(ctx, old, nil); err != nil || len(got) != 1 || got[0] != 1 {
		t.Errorf("version 1 of bad: rows %v, error %v, want [1]", got, err)
	}
	tabletest.WantRows(t, b, "bad", 2)
	tabletest.WantRows(t, b, "good", 2)
	if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) > 0 {
		t.Errorf("Verify reported %+v", findings)
	}
	missing := &tables.MaintainOptions{Grace: -1, Buckets: tables.Buckets{""}, Tables: []string{"missing"}}
	if r, err := s.Expire(ctx, missing); err == nil || r != (tables.MaintainResult{}) {
		t.Errorf("Expire of a missing table = %+v, %v, want only an error", r, err)
	}
	if _, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1, Buckets: tables.Buckets{""}, Tables: []string{"good"}}); err != nil {
		t.Error(err)
	}
	tabletest.ExecInCatalog(t, s.Dir(), `DROP TRIGGER fail`)
	if r, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1}); err != nil || r.Tables != 1 || r.Versions != 1 || r.FilesRemoved == 0 {
		t.Errorf("Expire = %+v, %v, want Tables 1, Versions 1 and removed files", r, err)
	}
	tabletest.WantRows(t, b, "bad", 2)
}
