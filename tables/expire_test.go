package tables

import (
	"errors"
	"strings"
	"testing"
)

// TestExpireFailedTable checks that Expire removes unused files even if the commit to one table fails, and keeps all files
// that this table needs.
func TestExpireFailedTable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, t.TempDir(), &Options{NoTail: true})
	b := s.Bucket("")
	for _, name := range []string{"bad", "good", "deleted"} {
		mustPut(t, b, name, PutAppend, 1)
		mustPut(t, b, name, PutReplace, 2)
	}
	if err := b.Delete(ctx, "deleted"); err != nil {
		t.Fatal(err)
	}
	execInCatalog(t, s.Dir(), `CREATE TRIGGER fail BEFORE UPDATE ON iceberg_tables WHEN OLD.table_name='bad' BEGIN SELECT RAISE(ABORT, 'no space'); END`)
	r, err := s.Expire(ctx, &MaintainOptions{Grace: -1})
	if err == nil || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), `"bad"`) || strings.Contains(err.Error(), "good") {
		t.Errorf("Expire error = %v, want an error about bad", err)
	}
	if r.Tables != 1 || r.Versions != 1 || r.FilesRemoved < 2 {
		t.Errorf("Expire = %+v, want Tables 1, Versions 1 and removed files", r)
	}
	if old, err := b.Table("bad").At(ctx, AtVersion(1)); err != nil {
		t.Error(err)
	} else if got, err := readAll(ctx, old, nil); err != nil || len(got) != 1 || got[0] != 1 {
		t.Errorf("version 1 of bad: rows %v, error %v, want [1]", got, err)
	}
	wantRows(t, b, "bad", 2)
	wantRows(t, b, "good", 2)
	if findings, _ := verifyAll(t, s, VerifyOptions{}); len(findings) > 0 {
		t.Errorf("Verify reported %+v", findings)
	}
	missing := &MaintainOptions{Grace: -1, Buckets: Buckets{""}, Tables: []string{"missing"}}
	if r, err := s.Expire(ctx, missing); err == nil || r != (MaintainResult{}) {
		t.Errorf("Expire of a missing table = %+v, %v, want only an error", r, err)
	}
	if _, err := s.Expire(ctx, &MaintainOptions{Grace: -1, Buckets: Buckets{""}, Tables: []string{"good"}}); err != nil {
		t.Error(err)
	}
	execInCatalog(t, s.Dir(), `DROP TRIGGER fail`)
	if r, err := s.Expire(ctx, &MaintainOptions{Grace: -1}); err != nil || r.Tables != 1 || r.Versions != 1 || r.FilesRemoved == 0 {
		t.Errorf("Expire = %+v, %v, want Tables 1, Versions 1 and removed files", r, err)
	}
	wantRows(t, b, "bad", 2)
}
