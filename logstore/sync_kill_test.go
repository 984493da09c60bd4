package logstore

import (
	"math/rand/v2"
	"testing"

	"github.com/go-partd/partd/internal/vfs/vfstest"
)

// A process is killed in its first Sync, after the background has written a
// manifest that says that the store is durable, and before the directory's name
// is synced. What the next process syncs survives a loss of power all the same.
func TestKilledInFirstSync(t *testing.T) {
	for seed := range uint64(20) {
		mem := vfstest.NewMem()
		h := crashHooks
		h.fs = mem
		s, err := open(crashDir, &Options{Memory: MinMemory}, h)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, s, "key", "value")
		s.durable.Store(true) // as the first Sync begins
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		left := mem.KillClone()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		h.fs = left
		if s, err = open(crashDir, &Options{Memory: MinMemory}, h); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.fs = left.Crash(rand.New(rand.NewPCG(seed, 1)))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = open(crashDir, &Options{Memory: MinMemory}, h); err != nil {
			t.Fatal(err)
		}
		wantValue(t, s, "key", "value")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
