package tables_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestOpenDamaged checks that only operations on the table with damaged metadata fail, with errors that name
// the table. After a repair, the table has all its rows again, including those in the tail.
func TestOpenDamaged(t *testing.T) {
	t.Parallel()
	for corruption, f := range tabletest.Corruptions {
		t.Run(corruption, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s, copied, file := tabletest.CorruptedStore(t, "metadata", f)
			b := s.Bucket("one")
			tabletest.WantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
			tabletest.Put(t, b, "good", tables.PutAppend, 6)
			wantDamagedError := func(operation string, err error) {
				t.Helper()
				if !errors.Is(err, tables.ErrDamaged) {
					t.Fatalf("%s: error = %v, want ErrDamaged", operation, err)
				}
				for _, part := range []string{file, "bad", "verify --repair-from"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%s: error %q does not contain %q", operation, err, part)
					}
				}
				if errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s: error %q wraps os.ErrNotExist, but the table exists", operation, err)
				}
			}
			_, _, err := tabletest.Read(ctx, b, "bad")
			wantDamagedError("read", err)
			for _, m := range []tables.PutMode{tables.PutAppend, tables.PutReplace, tables.PutError} {
				_, err = b.Table("bad").Put(ctx, tabletest.Rows(9), m, nil)
				wantDamagedError("put", err)
			}
			_, err = b.Table("bad").Upsert(ctx, tabletest.Rows(9), &tables.UpsertOptions{Keys: []string{"n"}})
			wantDamagedError("upsert", err)
			wantDamagedError("evolve", b.Table("bad").Evolve(ctx, tables.ColumnChange{Op: "drop", Column: "s"}))
			stop := errors.New("stop")
			err = s.Update(ctx, func(x *tables.Txn) error {
				for range 2 { // the second call must not treat the table as missing
					wantDamagedError("put in a transaction", x.Put("one", "bad", tabletest.Rows(9), tables.PutError, nil))
				}
				must.Do(t, x.Delete("one", "bad"))
				must.Do(t, x.Put("one", "bad", tabletest.Rows(9), tables.PutError, nil))
				return stop
			})
			must.Fail(t, err, stop, "Update")
			// Maintenance continues with the other tables, and reports the damaged one.
			r, err := s.Fold(ctx, nil)
			wantDamagedError("fold", err)
			if r.Rows != 3 {
				t.Errorf("Fold = %+v, want Rows 3", r)
			}
			r, err = s.Compact(ctx, nil)
			wantDamagedError("compact", err)
			if r.Tables != 2 {
				t.Errorf("Compact = %+v, want Tables 2", r)
			}
			r, err = s.Expire(ctx, &tables.MaintainOptions{Grace: -1})
			wantDamagedError("expire", err)
			if r.Tables != 2 || r.FilesRemoved != 0 {
				t.Errorf("Expire = %+v, want Tables 2 and FilesRemoved 0", r)
			}
			name, err := b.Snapshot(ctx, "snap")
			wantDamagedError("snapshot", err)
			if name != "snap" {
				t.Errorf("Snapshot returned the name %q, want snap", name)
			}
			for _, op := range []string{"backup", "copy"} {
				dest := tabletest.Open(t, t.TempDir(), nil)
				var copied []tables.CopiedTable
				if op == "backup" {
					copied, err = s.Backup(ctx, dest, "monday")
				} else {
					copied, err = s.CopyTo(ctx, dest)
				}
				wantDamagedError(op, err)
				if len(copied) != 2 {
					t.Errorf("%s copied %+v, want 2 tables", op, copied)
				}
				tabletest.WantRows(t, dest.Bucket("one"), "good", 0, 1, 2, 3, 4, 5, 6)
			}
			wantDamaged(t, b, "bad")
			findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{})
			if len(findings) != 1 || findings[0].Table != "bad" || findings[0].File != file {
				t.Fatalf("Verify reported %+v, want %s of table bad", findings, file)
			}
			if findings, _ = tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: copied.Copies()}); len(findings) != 1 || findings[0].State != tables.Repaired {
				t.Fatalf("Verify reported %+v; want 1 element with State Repaired", findings)
			}
			wantDamaged(t, b)
			tabletest.WantRows(t, b, "bad", 0, 1, 2, 3, 4, 5)
			tabletest.Put(t, b, "bad", tables.PutAppend, 6)
			must.Do(t, s.Close())
			s = tabletest.Open(t, s.Dir(), nil)
			tabletest.WantRows(t, s.Bucket("one"), "bad", 0, 1, 2, 3, 4, 5, 6)
			if r, err := s.Fold(ctx, nil); err != nil || r.Rows != 3 {
				t.Errorf("Fold = %+v, %v; want Rows 3", r, err)
			}
			tabletest.WantRows(t, s.Bucket("one"), "bad", 0, 1, 2, 3, 4, 5, 6)
		})
	}
}

// wantDamaged checks which tables a listing shows as damaged.
func wantDamaged(t *testing.T, b *tables.Bucket, want ...string) {
	t.Helper()
	var damaged []string
	for i, err := range b.Tables(t.Context(), nil) {
		must.Do(t, err)
		if i.Damaged != "" {
			damaged = append(damaged, i.Name)
		}
	}
	if strings.Join(damaged, " ") != strings.Join(want, " ") {
		t.Errorf("damaged tables are %q, want %q", damaged, want)
	}
}

// TestCompactDamagedFile checks that Compact fails if it reads a damaged file, with an error that names the table.
func TestCompactDamagedFile(t *testing.T) {
	s, _, _ := tabletest.CorruptedStore(t, "data", tabletest.Corruptions["garbage"])
	for _, name := range []string{"bad", "good"} { // adds a second file, so that Compact merges both
		tabletest.Put(t, s.Bucket("one"), name, tables.PutAppend, 8, 9)
	}
	tabletest.Fold(t, s)
	must.Fail(t, must.Err(s.Compact(t.Context(), nil)), `"bad"`, "Compact")
}

// TestBackgroundFoldSkipsDamaged checks that background folding skips a damaged table, and folds it after its metadata
// has been repaired.
func TestBackgroundFoldSkipsDamaged(t *testing.T) {
	t.Parallel()
	s, copied, file := tabletest.CorruptedStore(t, "metadata", tabletest.Corruptions["zeroed"])
	must.Do(t, s.Close())
	s = tabletest.Open(t, s.Dir(), &tables.Options{FoldAge: 10 * time.Millisecond})
	folded := func(name string, want int64) bool {
		l, err := s.Bucket("one").Table(name).Info(t.Context())
		return err == nil && l.Rows == want
	}
	await := func(name string, want int64) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !folded(name, want); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("table %s was not folded within 20 seconds", name)
			}
		}
	}
	await("good", 6)
	rel := must.Get(filepath.Rel(s.Dir(), file))(t)
	must.Do(t, os.WriteFile(file, must.Get(os.ReadFile(filepath.Join(copied.Dir(), rel)))(t), 0o666))
	await("bad", 6)
	tabletest.WantRows(t, s.Bucket("one"), "bad", 0, 1, 2, 3, 4, 5)
}

// TestDeleteOrRestoreDamaged checks that a damaged table can be deleted, by itself or with its bucket, or restored from
// a backup. Afterwards, none of the table's old rows may reappear from the tail, which holds rows that are not yet in
// data files.
func TestDeleteOrRestoreDamaged(t *testing.T) {
	t.Parallel()
	for corruption, f := range tabletest.Corruptions {
		for _, action := range []string{"delete", "bucket", "restore"} {
			t.Run(corruption+"/"+action, func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				s, copied, _ := tabletest.CorruptedStore(t, "metadata", f)
				b := s.Bucket("one")
				var err error
				switch action {
				case "delete":
					err = b.Delete(ctx, "bad")
				case "bucket":
					err = s.DeleteBucket(ctx, "one", true)
				case "restore":
					dest := tabletest.Open(t, t.TempDir(), nil)
					must.Get(copied.Backup(ctx, dest, "monday"))(t)
					_, err = s.RestoreFrom(ctx, dest, "monday")
				}
				must.Do(t, err)
				for range 2 {
					rows, exists, err := tabletest.Read(ctx, s.Bucket("one"), "bad")
					if err != nil || exists != (action == "restore") || exists && len(rows) != 6 {
						t.Errorf("after %s: read = %v, exists %v, error %v; want 6 rows after a restore, and otherwise no table", action, rows, exists, err)
					}
					tabletest.WantIntact(t, s)
					must.Get(s.Expire(ctx, &tables.MaintainOptions{Grace: -1}))(t)
					if action != "restore" {
						tabletest.Put(t, s.Bucket("one"), "bad", tables.PutError, 1)
						must.Do(t, s.Bucket("one").Delete(ctx, "bad"))
					}
					must.Do(t, s.Close())
					s = tabletest.Open(t, s.Dir(), &tables.Options{FoldAge: -1})
				}
			})
		}
	}
}

// TestDamagedTail checks that if a table's data in the tail (rows not yet in data files) cannot be decoded,
// this affects only that table, and the data stays in the tail until the table is deleted.
func TestDamagedTail(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	s := tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	b := s.Bucket("one")
	for _, rows := range [][]int64{{1, 2}, {3}} {
		tabletest.Fold(t, s)
		tabletest.Put(t, b, "bad", tables.PutAppend, rows...)
		tabletest.Put(t, b, "good", tables.PutAppend, rows...)
	}
	l := must.Get(iceberg.Load(ctx, b.Table("bad"), nil))(t)
	uuid := l.Metadata().TableUUID().String()
	must.Do(t, s.Close())
	log := must.Get(logstore.Open(filepath.Join(dir, "tail"), nil))(t)
	for k, err := range partd.Keys(ctx, log) {
		must.Do(t, err)
		if strings.HasPrefix(k.Key, uuid) {
			must.Do(t, log.Append(ctx, partd.Entry{Key: k.Key, Value: []byte("no frame")}))
		}
	}
	must.Do(t, log.Close())
	for range 2 {
		s = tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
		b = s.Bucket("one")
		tabletest.WantRows(t, b, "good", 1, 2, 3)
		wantDamaged(t, b, "bad")
		if _, _, err := tabletest.Read(ctx, b, "bad"); !errors.Is(err, tables.ErrDamaged) || !strings.Contains(err.Error(), "tail key "+uuid) || !strings.Contains(err.Error(), "bad") {
			t.Errorf("read error = %v, want ErrDamaged with the table and the tail key %s", err, uuid)
		}
		must.Fail(t, must.Err(b.Table("bad").Put(ctx, tabletest.Rows(9), tables.PutAppend, nil)), tables.ErrDamaged, "Put")
		if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) != 1 || findings[0].Table != "bad" {
			t.Errorf(`Verify reported %+v; want 1 element with Table "bad"`, findings)
		}
		must.Do(t, s.Close())
	}
	s = tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	must.Do(t, s.Bucket("one").Delete(ctx, "bad"))
	tabletest.Put(t, s.Bucket("one"), "bad", tables.PutError, 1)
	tabletest.WantRows(t, s.Bucket("one"), "bad", 1)
}

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
		must.Do(t, s.Close())
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
		must.Fail(t, must.Err(b.Snapshot(ctx, "snap")), tables.ErrDamaged, "%v: Snapshot", loc)
		must.Do(t, b.DeleteSnapshots(ctx))
		if err := b.Delete(ctx, "bad"); err != nil {
			t.Errorf("%v: Delete: %v", loc, err)
		}
		if _, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1}); err != nil {
			t.Errorf("%v: Expire: %v", loc, err)
		}
		tabletest.WantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
	}
}

// TestDeepFile checks that an extremely nested schema in a Parquet file causes only an error for its table, in scans
// and in Verify. Such a schema could overflow the stack of a recursive reader.
func TestDeepFile(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("one")
	ns := make([]int64, 3000)
	for i := range ns {
		ns[i] = rand.Int64()
	}
	tabletest.Put(t, b, "bad", tables.PutAppend, ns...)
	tabletest.Fold(t, s)
	const levels = 2000
	footer := binary.AppendUvarint([]byte("\x15\x02\x19\xfc"), levels+1)                        // the version, and the start of a list of nodes
	footer = append(footer, strings.Repeat("\x48\x01a\x15\x02\x00", levels)+"\x48\x01a\x00"...) // each node except the last has one child
	footer = append(footer, "\x16\x00\x19\x0c\x00"...)                                          // no rows, no groups
	footer = append(binary.LittleEndian.AppendUint32(footer, uint32(len(footer))), "PAR1"...)
	file := tabletest.TableFiles(t, s, "one", "bad")["data"][0]
	tabletest.Damage(t, file, func(old []byte) []byte {
		if len(old) < len(footer)+4 {
			t.Fatal("the table's file is shorter than the crafted footer")
		}
		return append(append([]byte("PAR1"), bytes.Repeat([]byte{0}, len(old)-len(footer)-4)...), footer...)
	})
	const want = "its schema has more than 256 levels at node 257 of 2001"
	if _, _, err := tabletest.Read(t.Context(), b, "bad"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("read error = %v, want %q", err, want)
	}
	// Make the catalog forget the checksum, as if another program had written the file.
	tabletest.ExecInCatalog(t, s.Dir(), `DELETE FROM partd_files WHERE path='file://' || ?`, file)
	if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) != 1 || findings[0].Problem != want {
		t.Errorf("Verify reported %+v, want the problem %q", findings, want)
	}
}
