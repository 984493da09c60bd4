package tables_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestDamagedVersion checks that damage to a table's manifest list, manifest or data file affects only that table.
func TestDamagedVersion(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"list", "manifest", "data"} {
		for corruption, f := range tabletest.Corruptions {
			t.Run(kind+"/"+corruption, func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				s, copied, file := tabletest.CorruptedStore(t, kind, f)
				b := s.Bucket("one")
				if _, _, err := tabletest.Read(ctx, b, "bad"); err == nil {
					if kind != "data" || corruption != "another file" { // only the checksum shows the difference
						t.Error("reading the damaged table succeeded, want an error")
					}
				} else if kind != "data" && (!errors.Is(err, tables.ErrDamaged) || !strings.Contains(err.Error(), file)) {
					t.Errorf("read error = %v, want ErrDamaged with the path %s", err, file)
				}
				tabletest.WantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
				if _, err := s.Fold(ctx, nil); err != nil && !errors.Is(err, tables.ErrDamaged) {
					t.Errorf("Fold error = %v, want nil or ErrDamaged", err)
				}
				if r, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1}); kind != "data" && (!errors.Is(err, tables.ErrDamaged) || r.FilesRemoved > 0) {
					t.Errorf("Expire = %+v, %v; want ErrDamaged and no removed files", r, err)
				}
				dest := tabletest.Open(t, t.TempDir(), nil)
				copiedTables, err := s.Backup(ctx, dest, "monday")
				if !errors.Is(err, tables.ErrDamaged) || !strings.Contains(err.Error(), filepath.Base(file)) || len(copiedTables) != 2 {
					t.Errorf("Backup = %+v, %v; want 2 tables and ErrDamaged with the name of %s", copiedTables, err, file)
				}
				tabletest.WantRows(t, dest.Bucket("one"), "good", 0, 1, 2, 3, 4, 5)
				if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: copied.Copies()}); len(findings) != 1 || findings[0].State != tables.Repaired {
					t.Errorf("Verify reported %+v; want 1 element with State Repaired", findings)
				}
				tabletest.WantRows(t, b, "bad", 0, 1, 2, 3, 4, 5)
			})
		}
	}
}

// TestInvalidMetadataLocation checks that a catalog row with an invalid metadata location affects only its table.
func TestInvalidMetadataLocation(t *testing.T) {
	t.Parallel()
	for _, loc := range []any{nil, "", "nowhere", "s3://bucket/x.metadata.json", "file:///nowhere/x.metadata.json"} {
		s, _, _ := tabletest.CorruptedStore(t, "metadata", func(b, _ []byte) []byte { return b })
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		tabletest.ExecInCatalog(t, s.Dir(), `UPDATE iceberg_tables SET metadata_location=? WHERE table_name='bad'`, loc)
		s = tabletest.Open(t, s.Dir(), nil)
		ctx, b := t.Context(), s.Bucket("one")
		tabletest.WantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
		wantDamaged(t, b, "bad")
		if _, _, err := tabletest.Read(ctx, b, "bad"); !errors.Is(err, tables.ErrDamaged) || !strings.Contains(err.Error(), "bad") {
			t.Errorf(`%v: read error = %v, want ErrDamaged with the text "bad"`, loc, err)
		}
		if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) != 1 || findings[0].Table != "bad" {
			t.Errorf(`%v: Verify reported %+v; want 1 element with Table "bad"`, loc, findings)
		}
		if _, err := b.Snapshot(ctx, "snap"); !errors.Is(err, tables.ErrDamaged) {
			t.Errorf("%v: Snapshot error = %v, want ErrDamaged", loc, err)
		}
		if err := b.DeleteSnapshots(ctx); err != nil {
			t.Error(err)
		}
		if err := b.Delete(ctx, "bad"); err != nil {
			t.Errorf("%v: Delete: %v", loc, err)
		}
		if _, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1}); err != nil {
			t.Errorf("%v: Expire: %v", loc, err)
		}
		tabletest.WantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
	}
}
