package logstore

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestMergePowerLoss checks that no data is lost if the power fails before any file system call of a merge.
func TestMergePowerLoss(t *testing.T) {
	mem := vfstest.NewMem()
	want := manySessions(t, mem, 10)
	rnd := rand.New(rand.NewPCG(1, 2))
	h := mergeHooks
	h.minMerge = -1
	var mu sync.Mutex // the merge and the closing of a merged file may call the hook concurrently
	armed, crashes := false, 0
	lossHooks := h
	h.fs = vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		for i := 0; i < 200 && armed && op.Changes(); i++ {
			crashes++
			lossHooks.fs = mem.Crash(rnd)
			s, err := openHooked("/s", nil, lossHooks)
			if err != nil {
				t.Errorf("opening the store after a power failure: %v", err)
				return nil
			}
			if got, err := contents(s); err != nil || len(got) != len(want) || string(got["k0"]) != string(want["k0"]) {
				t.Errorf("after a power failure, the store has %d keys and %q, want %d and %q; error %v", len(got), got["k0"], len(want), want["k0"], err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	s := openWith(t, "/s", nil, h)
	must.Do(t, s.Sync(t.Context()))
	mu.Lock()
	armed = true
	mu.Unlock()
	mergeNow(t, s, 4)
	mu.Lock()
	armed = false
	if crashes == 0 {
		t.Error("the merge made no file system call")
	}
	mu.Unlock()
	must.Do(t, s.Close())
}

// TestPowerLossDuringRecovery checks that synced data is not lost if a process is killed with
// unsynced records, and the power then fails before any file system call of recovery.
func TestPowerLossDuringRecovery(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		mem := vfstest.NewMem()
		h := crashHooksOn(mem)
		s := openWith(t, crashDir, nil, h)
		mustAppend(t, s, "synced", "value")
		must.Do(t, s.Sync(t.Context()))
		for i := 0; i < 100 && (i < 5 || frozen && s.tables.frozen == nil); i++ {
			mustAppend(t, s, "unsynced", "a value that is not synced")
		}
		killed := mem.KillClone()
		must.Do(t, s.Close())
		rnd := rand.New(rand.NewPCG(3, 4))
		lossHooks := crashHooks
		h.fs = vfstest.Inject(killed, func(op vfstest.Op, _ string) error {
			for i := 0; i < 20 && op.Changes(); i++ {
				lossHooks.fs = killed.Crash(rnd)
				s, err := openHooked(crashDir, nil, lossHooks)
				if err != nil {
					t.Errorf("opening the store after a power failure during recovery: %v", err)
					return nil
				}
				wantValue(t, s, "synced", "value")
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			return nil
		})
		s = openWith(t, crashDir, nil, h)
		must.Do(t, s.Close())
	}
}
