package logstore

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// eachCall runs do on a store's files, and calls check before each call that changes them.
func eachCall(t *testing.T, mem *vfstest.Mem, opts *Options, do func(s *Store), check func(op vfstest.Op)) {
	t.Helper()
	var mu sync.Mutex // background goroutines change files, too
	h := crashHooks
	h.fs = vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
		if op.Changes() {
			mu.Lock()
			defer mu.Unlock()
			check(op)
		}
		return nil
	})
	s := openWith(t, crashDir, opts, h)
	do(s)
	must.Do(t, s.Close())
}

// TestPowerLossAfterKill kills a store with the option Sync before each sync of a directory or, if PARTD_KILLS is set,
// before each call. It then opens the store, and simulates power losses before each call of Open and Close: the killed
// process may have renamed a file without syncing the directory, and a power loss undoes that.
func TestPowerLossAfterKill(t *testing.T) {
	opts := &Options{Sync: true, Memory: MinMemory}
	start, before := faultStart(t, opts)
	killsEverywhere := os.Getenv("PARTD_KILLS") != ""
	losses, seen := 0, readings{}
	for _, step := range faultSteps() {
		switch step.name {
		case "append", "append a large batch", "drop", "flush", "close":
		default:
			continue
		}
		after := maps.Clone(before)
		step.want(after)
		var killed []*vfstest.Mem
		mem := start.KillClone()
		eachCall(t, mem, opts, func(s *Store) { must.Do(t, step.do(t.Context(), s)) }, func(op vfstest.Op) {
			if op == vfstest.OpSyncDir || killsEverywhere {
				killed = append(killed, mem.KillClone())
			}
		})
		for k, mem := range killed {
			var lost []*vfstest.Mem
			eachCall(t, mem, opts, func(*Store) {}, func(vfstest.Op) {
				lost = append(lost, mem.Crash(nil), mem.Crash(rand.New(rand.NewPCG(uint64(k), 1))))
			})
			for l, mem := range lost {
				got, err := seen.read(mem, opts)
				if err != nil {
					t.Fatalf("%s, killed at call %d, power loss %d: %v", step.name, k, l, err)
				}
				if !maps.EqualFunc(got, before, bytes.Equal) && !maps.EqualFunc(got, after, bytes.Equal) {
					t.Fatalf("%s, killed at call %d, power loss %d: wrong content with %d keys", step.name, k, l, len(got))
				}
				losses++
			}
		}
	}
	if losses < 1000 {
		t.Errorf("there were %d power losses, want at least 1000", losses)
	}
}
