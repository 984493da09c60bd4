package tables_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestRestoreDamaged checks that RestoreFrom replaces a table that has not changed since the backup if one of its
// data or metadata files is damaged.
func TestRestoreDamaged(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"data", "manifest", "list"} {
		for damageName, damage := range map[string]func(string) error{
			"missing": os.Remove,
			"flipped bit": func(path string) error {
				b, err := os.ReadFile(path)
				if err == nil {
					b[len(b)/2] ^= 1
					err = os.WriteFile(path, b, 0o600)
				}
				return err
			},
		} {
			t.Run(kind+"/"+damageName, func(t *testing.T) {
				ctx, s := t.Context(), tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
				for _, name := range []string{"a", "b"} {
					tabletest.Put(t, s.Bucket(""), name, tables.PutAppend, 1, 2, 3)
				}
				b := tabletest.Open(t, t.TempDir(), nil)
				if _, err := s.Backup(ctx, b, "monday"); err != nil {
					t.Fatal(err)
				}
				if snapshots, err := s.Bucket("").Snapshots(ctx); err != nil || len(snapshots) > 0 {
					t.Errorf("after the backup, the source has snapshots %v, want none; error: %v", snapshots, err)
				}
				path := tabletest.TableFiles(t, s, "", "a")[kind][0]
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if err := damage(path); err != nil {
					t.Fatal(err)
				}
				s = tabletest.Open(t, s.Dir(), &tables.Options{NoTail: true})
				restored, err := s.RestoreFrom(ctx, b, "monday")
				if err != nil {
					t.Fatal(err)
				}
				if unchanged, _ := tabletest.Totals(restored); unchanged != 1 {
					t.Errorf("RestoreFrom = %+v, want one unchanged table", restored)
				}
				if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) > 0 {
					t.Errorf("Verify reported %+v; want none", findings)
				}
				for _, name := range []string{"a", "b"} {
					tabletest.WantRows(t, s.Bucket(""), name, 1, 2, 3)
				}
			})
		}
	}
}

// TestBackupOverOtherTables checks that a backup fails if its destination has tables that are not from a backup, and leaves
// them unchanged.
func TestBackupOverOtherTables(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, dest := tabletest.Open(t, t.TempDir(), nil), tabletest.Open(t, t.TempDir(), nil)
	tabletest.Put(t, s.Bucket(""), "a", tables.PutAppend, 1)
	for _, name := range []string{"b", "a"} {
		tabletest.Put(t, dest.Bucket(""), name, tables.PutAppend, 2)
		if _, err := s.Backup(ctx, dest, "monday"); !errors.Is(err, tables.ErrExists) {
			t.Errorf("Backup over tables that are no backup: error = %v, want ErrExists", err)
		}
		tabletest.WantRows(t, dest.Bucket(""), name, 2)
		if err := dest.Bucket("").Delete(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Backup(ctx, dest, "monday"); err != nil {
		t.Fatal(err)
	}
}

// TestSecretsInURLs checks that URLs with credentials are rejected, and that errors do not show the credentials.
func TestSecretsInURLs(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"s3://AKIA:secret@bucket/house", "s3://AKIA:sec/ret@bucket/house", "gs://secret@bucket/house"} {
		s, err := tables.Open(t.Context(), url, tabletest.MemoryWarehouse(t, &faultyBucket{}))
		if err == nil {
			t.Errorf("Open(%q) succeeded with Dir %q, want an error", url, s.Dir())
			s.Close()
		} else if strings.Contains(err.Error(), "sec") {
			t.Errorf("Open error = %v, want an error without the credentials", err)
		}
	}
}
