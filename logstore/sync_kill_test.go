package logstore

import (
	"math/rand/v2"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestKilledInFirstSync simulates a process that is killed during its first Sync: after a new segment's
// manifest marked the store as durable, but before the directory's name was synced. Data that the
// next process syncs must survive a power failure.
func TestKilledInFirstSync(t *testing.T) {
	for seed := range uint64(20) {
		mem := vfstest.NewMem()
		h := crashHooksOn(mem)
		s := openWith(t, crashDir, &Options{Memory: MinMemory}, h)
		mustAppend(t, s, "key", "value")
		s.durable.Store(true) // as at the start of the first Sync
		must.Do(t, s.Flush(t.Context()))
		killed := mem.KillClone()
		must.Do(t, s.Close())
		h.fs = killed
		s = openWith(t, crashDir, &Options{Memory: MinMemory}, h)
		must.Do(t, s.Sync(t.Context()))
		h.fs = killed.Crash(rand.New(rand.NewPCG(seed, 1)))
		must.Do(t, s.Close())
		s = openWith(t, crashDir, &Options{Memory: MinMemory}, h)
		wantValue(t, s, "key", "value")
		must.Do(t, s.Close())
	}
}
