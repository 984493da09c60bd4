package logstore

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-partd/partd"
)

// A delete of keys that do not exist writes nothing, however many there are; nor does
// any other operation that finds nothing to do.
func TestDeleteOfNothingWritesNothing(t *testing.T) {
	s, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	mustAppend(t, s, "there", "v")
	before := s.tables.active.wal.end
	none := make([]string, 300)
	for i := range none {
		none[i] = fmt.Sprint("none", i)
	}
	for what, do := range map[string]func() error{
		"delete":              func() error { return s.Delete(ctx, none...) },
		"pop":                 func() error { _, err := s.Pop(ctx, none...); return err },
		"append of no bytes":  func() error { return s.Append(ctx, partd.Entry{Key: "there"}) },
		"set once that loses": func() error { return s.SetOnce(ctx, "there", []byte("other")) },
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if end := s.tables.active.wal.end; end != before {
			t.Errorf("%s wrote %d bytes", what, end-before)
			before = end
		}
	}
	if err := s.Delete(ctx, append(none, "there")...); err != nil {
		t.Fatal(err)
	}
	wantValue(t, s, "there", "")
	if wrote := s.tables.active.wal.end - before; wrote > 100 {
		t.Errorf("a delete of one key that exists among %d wrote %d bytes", len(none), wrote)
	}
}

// The numbers of a session's deletes of nothing are kept, and take little of the disk.
func TestNumberedDeletesOfNothing(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	session, err := s.NewSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const n = 100_000
	for i := range n {
		op := partd.Operation{Change: partd.ChangeDelete, Keys: []string{"none", "nor this"}}
		if applied, err := s.Apply(t.Context(), partd.Tag{Session: session, Number: uint64(i) + 1}, op); err != nil || !applied {
			t.Fatal(applied, err)
		}
	}
	disk := int64(0)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if info, err := os.Stat(filepath.Join(dir, f.Name())); err == nil {
			disk += info.Size()
		}
	}
	if disk > 5<<20 {
		t.Errorf("%d numbered deletes of nothing take %d bytes", n, disk)
	}
	if applied, err := s.Apply(t.Context(), partd.Tag{Session: session, Number: n}, partd.Operation{Change: partd.ChangeDelete, Keys: []string{"none"}}); applied || err != nil {
		t.Errorf("the last, sent again: %v, %v", applied, err)
	}
}

// A key that is made between the look and the record is deleted with the others.
func TestDeleteLooksAgain(t *testing.T) {
	s, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mustAppend(t, s, "old", "v")
	op := s.lookFor(t.Context(), []string{"new", "old", "none"})
	mustAppend(t, s, "new", "v")
	if _, err := s.change(t.Context(), "delete", partd.Tag{}, op); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"old", "new"} {
		wantValue(t, s, k, "")
	}
	if op.exists[2] {
		t.Error("a key that does not exist was deleted")
	}
}

// A numbered delete of very many keys of which none exists leaves the table as it is, and
// holds up nobody to look for them again.
func TestManyNumberedDeletesOfNothing(t *testing.T) {
	s, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	session, err := s.NewSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys := make([]string, s.maxBatch/perEntry)
	for i := range keys {
		keys[i] = fmt.Sprint("none", i)
	}
	mustAppend(t, s, "there", "v")
	op := s.lookFor(t.Context(), keys)
	mustAppend(t, s, keys[0], "made since") // the delete is as if it had been before
	first, tag := s.tables.active.firstSeq, partd.Tag{Session: session, Number: 1}
	for _, isNew := range []bool{true, false} {
		if applied, err := s.change(t.Context(), "delete", tag, op); applied != isNew || err != nil {
			t.Errorf("%v, %v", applied, err)
		}
	}
	if s.tables.active.firstSeq != first || len(s.segments.list) > 0 {
		t.Error("a table was written out for it")
	}
	wantValue(t, s, keys[0], "made since")
}
