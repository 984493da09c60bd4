package tables

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// TestDamagedVersion checks that damage to a table's manifest list, manifest or data file affects only that table.
func TestDamagedVersion(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"list", "manifest", "data"} {
		for corruption, f := range corruptions {
			t.Run(kind+"/"+corruption, func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				s, copied, file := corruptedStore(t, kind, f)
				b := s.Bucket("one")
				if _, _, err := read(ctx, b, "bad"); err == nil {
					if kind != "data" || corruption != "another file" { // only the checksum shows the difference
						t.Error("reading the damaged table succeeded, want an error")
					}
				} else if kind != "data" && (!errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), file)) {
					t.Errorf("read error = %v, want ErrDamaged with the path %s", err, file)
				}
				wantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
				if _, err := s.Fold(ctx, nil); err != nil && !errors.Is(err, ErrDamaged) {
					t.Errorf("Fold error = %v, want nil or ErrDamaged", err)
				}
				if r, err := s.Expire(ctx, &MaintainOptions{Grace: -1}); kind != "data" && (!errors.Is(err, ErrDamaged) || r.FilesRemoved > 0) {
					t.Errorf("Expire = %+v, %v; want ErrDamaged and no removed files", r, err)
				}
				dest := mustOpen(t, t.TempDir(), nil)
				copiedTables, err := s.Backup(ctx, dest, "monday")
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), filepath.Base(file)) || len(copiedTables) != 2 {
					t.Errorf("Backup = %+v, %v; want 2 tables and ErrDamaged with the name of %s", copiedTables, err, file)
				}
				wantRows(t, dest.Bucket("one"), "good", 0, 1, 2, 3, 4, 5)
				if findings, _ := verifyAll(t, s, VerifyOptions{Repair: copied.Copies()}); len(findings) != 1 || findings[0].State != Repaired {
					t.Errorf("Verify reported %+v; want 1 element with State Repaired", findings)
				}
				wantRows(t, b, "bad", 0, 1, 2, 3, 4, 5)
			})
		}
	}
}

// TestInvalidMetadataLocation checks that a catalog row with an invalid metadata location affects only its table.
func TestInvalidMetadataLocation(t *testing.T) {
	t.Parallel()
	for _, loc := range []any{nil, "", "nowhere", "s3://bucket/x.metadata.json", "file:///nowhere/x.metadata.json"} {
		s, _, _ := corruptedStore(t, "metadata", func(b, _ []byte) []byte { return b })
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		execInCatalog(t, s.Dir(), `UPDATE iceberg_tables SET metadata_location=? WHERE table_name='bad'`, loc)
		s = mustOpen(t, s.Dir(), nil)
		ctx, b := t.Context(), s.Bucket("one")
		wantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
		wantDamaged(t, b, "bad")
		if _, _, err := read(ctx, b, "bad"); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "bad") {
			t.Errorf(`%v: read error = %v, want ErrDamaged with the text "bad"`, loc, err)
		}
		if findings, _ := verifyAll(t, s, VerifyOptions{}); len(findings) != 1 || findings[0].Table != "bad" {
			t.Errorf(`%v: Verify reported %+v; want 1 element with Table "bad"`, loc, findings)
		}
		if _, err := b.Snapshot(ctx, "snap"); !errors.Is(err, ErrDamaged) {
			t.Errorf("%v: Snapshot error = %v, want ErrDamaged", loc, err)
		}
		if err := b.DeleteSnapshots(ctx); err != nil {
			t.Error(err)
		}
		if err := b.Delete(ctx, "bad"); err != nil {
			t.Errorf("%v: Delete: %v", loc, err)
		}
		if _, err := s.Expire(ctx, &MaintainOptions{Grace: -1}); err != nil {
			t.Errorf("%v: Expire: %v", loc, err)
		}
		wantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
	}
}
