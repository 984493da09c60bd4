package logstore

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestDropAfterReadOnlyRecovery opens a store after a crash, while the disk is full, so that the
// records of its write-ahead files stay in memory. When there is space, a Drop must make the
// store accept changes. A reader of an old value must continue to work.
func TestDropAfterReadOnlyRecovery(t *testing.T) {
	mem := vfstest.NewMem()
	h := crashHooks
	h.fs = mem
	first, err := open(crashDir, nil, h)
	if err != nil {
		t.Fatal(err)
	}
	old := strings.Repeat("v", 300)
	mustAppend(t, first, "k", old)
	killed := mem.KillClone()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	var full atomic.Bool
	full.Store(true)
	h.fs = diskFull(killed, &full, true)
	s, err := open(crashDir, nil, h)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.tables.walTables) == 0 {
		t.Fatal("open recovered no records into memory, so the test would prove nothing")
	}
	wantContents(t, s, map[string][]byte{"k": []byte(old)})
	r, err := s.Open(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	full.Store(false)
	for range 3 {
		if err := s.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantContents(t, s, map[string][]byte{})
		want := map[string][]byte{}
		for range 40 { // more than a table can contain
			mustAppend(t, s, "k", old)
			want["k"] = append(want["k"], old...)
		}
		wantContents(t, s, want)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != old {
		t.Fatalf("the reader returned %d bytes (error %v), want %d", len(b), err, len(old))
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := killed.OpenCount(); n > 0 {
		t.Fatalf("%d files are still open after Close", n)
	}
}
