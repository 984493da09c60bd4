package logstore

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-partd/partd/internal/vfs/vfstest"
)

// A store that was not closed is opened on a full disk, with what its write-ahead
// files hold in memory; once there is room, it is dropped and takes changes again.
// Who reads the old value meanwhile goes on reading it.
func TestFoundRecordsAreDropped(t *testing.T) {
	mem := vfstest.NewMem()
	h := crashHooks
	h.fs = mem
	first, err := open(crashDir, nil, h)
	if err != nil {
		t.Fatal(err)
	}
	old := strings.Repeat("v", 300)
	mustAppend(t, first, "k", old)
	left := mem.KillClone()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	var full atomic.Bool
	full.Store(true)
	h.fs = diskFull(left, &full, true)
	s, err := open(crashDir, nil, h)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.tables.found) == 0 {
		t.Fatal("nothing was found: the test tests nothing")
	}
	mustHold(t, s, map[string][]byte{"k": []byte(old)})
	r, err := s.Open(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	full.Store(false)
	for range 3 {
		if err := s.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustHold(t, s, map[string][]byte{})
		want := map[string][]byte{}
		for range 40 { // more than a table holds
			mustAppend(t, s, "k", old)
			want["k"] = append(want["k"], old...)
		}
		mustHold(t, s, want)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != old {
		t.Fatalf("the reader has %d bytes, %v", len(b), err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := left.OpenCount(); n > 0 {
		t.Fatalf("%d files are left open", n)
	}
}
