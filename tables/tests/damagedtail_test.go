package tables_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables/iceberg"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/logstore"
)

// TestDamagedTail checks that if a table's data in the tail (rows not yet in data files) cannot be decoded,
// this affects only that table, and the data stays in the tail until the table is deleted.
func TestDamagedTail(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	s := tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	b := s.Bucket("one")
	for _, rows := range [][]int64{{1, 2}, {3}} {
		if _, err := s.Fold(ctx, nil); err != nil {
			t.Fatal(err)
		}
		tabletest.Put(t, b, "bad", tables.PutAppend, rows...)
		tabletest.Put(t, b, "good", tables.PutAppend, rows...)
	}
	l, err := iceberg.Load(ctx, b.Table("bad"), nil)
	if err != nil {
		t.Fatal(err)
	}
	uuid := l.Metadata().TableUUID().String()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := logstore.Open(filepath.Join(dir, "tail"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, err := range partd.Keys(ctx, log) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(k.Key, uuid) {
			if err := log.Append(ctx, partd.Entry{Key: k.Key, Value: []byte("no frame")}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
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
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s = tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	if err := s.Bucket("one").Delete(ctx, "bad"); err != nil {
		t.Fatal(err)
	}
	tabletest.Put(t, s.Bucket("one"), "bad", tables.PutError, 1)
	tabletest.WantRows(t, s.Bucket("one"), "bad", 1)
}
