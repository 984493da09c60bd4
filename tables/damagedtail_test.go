package tables

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/logstore"
)

// TestDamagedTail checks that if a table's data in the tail (rows not yet in data files) cannot be decoded,
// this affects only that table, and the data stays in the tail until the table is deleted.
func TestDamagedTail(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	s := mustOpen(t, dir, &Options{FoldAge: -1})
	b := s.Bucket("one")
	for _, rows := range [][]int64{{1, 2}, {3}} {
		if _, err := s.Fold(ctx, nil); err != nil {
			t.Fatal(err)
		}
		mustPut(t, b, "bad", PutAppend, rows...)
		mustPut(t, b, "good", PutAppend, rows...)
	}
	l, err := s.cat.Get(ctx, "one", "bad")
	if err != nil {
		t.Fatal(err)
	}
	uuid := l.UUID
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
		s = mustOpen(t, dir, &Options{FoldAge: -1})
		b = s.Bucket("one")
		wantRows(t, b, "good", 1, 2, 3)
		wantDamaged(t, b, "bad")
		if _, _, err := read(ctx, b, "bad"); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "tail key "+uuid) || !strings.Contains(err.Error(), "bad") {
			t.Errorf("read error = %v, want ErrDamaged with the table and the tail key %s", err, uuid)
		}
		if _, err := b.Table("bad").Put(ctx, rowsOf(9), PutAppend, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("Put error = %v, want ErrDamaged", err)
		}
		if findings, _ := verifyAll(t, s, VerifyOptions{}); len(findings) != 1 || findings[0].Table != "bad" {
			t.Errorf(`Verify reported %+v; want 1 element with Table "bad"`, findings)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s = mustOpen(t, dir, &Options{FoldAge: -1})
	if err := s.Bucket("one").Delete(ctx, "bad"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s.Bucket("one"), "bad", PutError, 1)
	wantRows(t, s.Bucket("one"), "bad", 1)
}
