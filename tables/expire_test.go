package tables_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/disk/vfs"
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

// TestGracePeriodRestarts checks that a file's grace period starts again if Expire records the file as unused, then the
// file is committed, and then it becomes unused again. Otherwise, Expire could remove a file that a reader still reads.
func TestGracePeriodRestarts(t *testing.T) {
	t.Parallel()
	var s *tables.Store
	recorded := 0
	h := tables.Hooks{FS: vfs.OS{}, OnPrepared: func() {
		if recorded == 0 {
			r, err := s.Expire(t.Context(), &tables.MaintainOptions{Keep: 100})
			if err != nil {
				t.Error(err)
			}
			recorded += r.FilesWaiting
		}
	}}
	s, err := tables.OpenHooked(t.Context(), t.TempDir(), &tables.Options{NoTail: true}, h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // the test is over
	b := s.Bucket("")
	tabletest.Put(t, b, "a", tables.PutAppend, 1)
	if recorded == 0 {
		t.Fatal("Expire recorded no unused files before the commit")
	}
	for _, drop := range []func() error{
		func() error {
			_, err := b.Table("a").Put(t.Context(), tabletest.Rows(2), tables.PutReplace, nil)
			return err
		},
		func() error { return b.Delete(t.Context(), "a") },
	} {
		table := b.Table("a")
		r, err := table.Scan(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := drop(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Expire(t.Context(), &tables.MaintainOptions{Grace: -1}); err != nil {
			t.Fatal(err)
		}
		if !r.Next() || r.RecordBatch().NumRows() != 1 {
			t.Fatalf("the scan returned no batch of one row; error: %v", r.Err())
		}
		r.Release()
	}
}
