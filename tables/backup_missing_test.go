package tables_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestBackupMissingFiles checks that Backup and CopyTo send files again that the target has lost, or that have another
// size, although their tables have not changed. In a bucket, local copies of lost objects must not hide the loss.
func TestBackupMissingFiles(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	for i := range 3 {
		tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, int64(i))
	}
	type operation func(to *tables.Store, name string) ([]tables.CopiedTable, error)
	for op, do := range map[string]operation{
		"backup": func(to *tables.Store, name string) ([]tables.CopiedTable, error) { return s.Backup(ctx, to, name) },
		"copy":   func(to *tables.Store, _ string) ([]tables.CopiedTable, error) { return s.CopyTo(ctx, to) },
	} {
		for _, kind := range []string{"data", "manifest", "list", "metadata"} {
			for _, damage := range []string{"missing", "short", "bucket"} {
				t.Run(op+" "+kind+" "+damage, func(t *testing.T) {
					b, to := new(objstore.Memory), tabletest.Open(t, t.TempDir(), nil)
					if damage == "bucket" {
						to = tabletest.Open(t, "s3://bucket/house", tabletest.MemoryWarehouse(t, b))
					}
					_, err := do(to, "first")
					tabletest.Succeed(t, err)
					files := sampleFiles(t, to, "", "t")
					files["metadata"], err = to.Catalog().Location(ctx, tables.NamespaceOf(""), "t")
					tabletest.Succeed(t, err)
					path, inDirectory := strings.CutPrefix(files[kind], "file://")
					switch {
					case !inDirectory:
						replaceObject(t, b, strings.TrimPrefix(path, "s3://bucket/house/"), nil)
					case damage == "missing":
						tabletest.Succeed(t, os.Remove(path))
					default:
						tabletest.Succeed(t, os.Truncate(path, 0))
					}
					copied, err := do(to, "second")
					tabletest.Succeed(t, err)
					want := map[string]int{"data": 1}[kind]
					if unchanged, sent := tabletest.Totals(copied); unchanged != 0 || sent != want {
						t.Errorf("after the loss: %+v, want %d sent files of a changed table", copied, want)
					}
					findings, _ := tabletest.VerifyAll(t, to, tables.VerifyOptions{})
					if len(findings) > 0 && (op == "copy" || kind == "data") { // an earlier backup keeps its lost manifests
						t.Errorf("Verify reported %+v, want none", findings)
					}
					if copied, err = do(to, "third"); err != nil || !copied[0].Unchanged {
						t.Errorf("later: %+v, %v, want an unchanged table", copied, err)
					}
					tabletest.WantRows(t, to.Bucket(""), "t", 0, 1, 2)
					if op == "copy" {
						return
					}
					restored := tabletest.Open(t, t.TempDir(), nil)
					_, err = restored.RestoreFrom(ctx, to, "second")
					tabletest.Succeed(t, err)
					tabletest.WantRows(t, restored.Bucket(""), "t", 0, 1, 2)
				})
			}
		}
	}
}

// TestBackupLostEverywhere checks that Backup returns an error if both the store and the backup have lost a file.
func TestBackupLostEverywhere(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, to := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true}), tabletest.Open(t, t.TempDir(), nil)
	for _, name := range []string{"lost", "other"} {
		tabletest.Put(t, s.Bucket(""), name, tables.PutAppend, 1)
	}
	_, err := s.Backup(ctx, to, "first")
	tabletest.Succeed(t, err)
	for _, store := range []*tables.Store{s, to} {
		tabletest.Succeed(t, os.Remove(tabletest.TableFiles(t, store, "", "lost")["data"][0]))
	}
	tabletest.Put(t, s.Bucket(""), "other", tables.PutAppend, 2)
	copied, err := s.Backup(ctx, to, "second")
	if !errors.Is(err, tables.ErrDamaged) || !strings.Contains(err.Error(), "verify --dir") || len(copied) != 1 || copied[0].Name != "other" {
		t.Errorf("Backup = %+v, %v, want ErrDamaged and a copy of the other table", copied, err)
	}
	tabletest.WantRows(t, to.Bucket(""), "other", 1, 2)
}
