package logstore

import (
	"math/rand/v2"
	"testing"

	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestKilledInFirstSync simulates a process that is killed during its first Sync: after a new segment's
// manifest marked the store as durable, but before the directory's name was synced. Data that the
// next process syncs must survive a power failure.
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
		s.durable.Store(true) // as at the start of the first Sync
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		killed := mem.KillClone()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		h.fs = killed
		if s, err = open(crashDir, &Options{Memory: MinMemory}, h); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.fs = killed.Crash(rand.New(rand.NewPCG(seed, 1)))
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
