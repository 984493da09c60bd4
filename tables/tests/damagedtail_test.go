package tables_test

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

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
		if _, err := b.Table("bad").Put(ctx, tabletest.Rows(9), tables.PutAppend, nil); !errors.Is(err, tables.ErrDamaged) {
			t.Errorf("Put error = %v, want ErrDamaged", err)
		}
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
		if _, err := b.Snapshot(ctx, "snap"); !errors.Is(err, tables.ErrDamaged) {
			t.Errorf("%v: Snapshot error = %v, want ErrDamaged", loc, err)
		}
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
	db := must.Get(sql.Open("sqlite", filepath.Join(s.Dir(), "catalog.db")))(t)
	defer db.Close() //nolint:errcheck // the test is over
	// Make the catalog forget the checksum, as if another program had written the file.
	must.Get(db.Exec(`DELETE FROM partd_files WHERE path='file://' || ?`, file))(t)
	if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) != 1 || findings[0].Problem != want {
		t.Errorf("Verify reported %+v, want the problem %q", findings, want)
	}
}
