package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/go-partd/partd/internal/vfs/vfstest"
)

const crashDir = "/data/store"

// crashHooks make tables so small that they are full every few appends.
var crashHooks = hooks{tableBytes: 4 << 10, blobBytes: 400, readBytes: 4 << 10, batchBytes: 1 << 10, walStep: 512}

// crashKind is a kind of simulated crash.
type crashKind uint8

const (
	powerLossSync  crashKind = iota // power loss of a store with Sync
	powerLossAfter                  // power loss of a store that calls Sync now and then
	processKill                     // death of the process
	numCrashKinds
)

// crashRun drives one store through random operations, and crashes it at
// random calls to its file system. After each crash the store is opened again,
// and must be what it was after some operation: not before the last one that
// had to survive, nor after the last one begun.
type crashRun struct {
	kind  crashKind
	hooks hooks
	rnd   *rand.Rand

	mem   *vfstest.Mem
	mu    sync.Mutex // guards what the file system's hook uses
	armed bool
	crash *rand.Rand
	every int

	states  []map[string][]byte // after each operation
	survive int                 // the state that must survive
	begun   int                 // the last state that may be seen
	checked int
	err     error

	reading func() error // ends a Scan
	removed int64        // entries that were left out of merges, as seen after crashes
}

var errFailed = errors.New("the check of a crash failed")

func newCrashRun(kind crashKind, seed uint64, h hooks) *crashRun {
	r := &crashRun{
		kind: kind, hooks: h, rnd: rand.New(rand.NewPCG(seed, 1)), crash: rand.New(rand.NewPCG(seed, 2)),
		mem: vfstest.NewMem(), every: 12, states: []map[string][]byte{{}},
	}
	r.mem.ZeroLostPages = r.rnd.IntN(2) == 0
	r.hooks.fs = vfstest.Inject(r.mem, r.before)
	return r
}

// before is called before each call to the file system.
func (r *crashRun) before(op vfstest.Op, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.armed || !op.Changes() || r.err != nil || r.crash.IntN(r.every) != 0 {
		return nil
	}
	r.err = r.check()
	return nil
}

func (r *crashRun) opts() *Options {
	return &Options{Memory: MinMemory, FileSize: 20 << 10, Sync: r.kind == powerLossSync, MaxSessions: 3}
}

// check crashes now and looks at what is left.
func (r *crashRun) check() error {
	r.checked++
	err := r.checkCrash()
	if err != nil && r.survive == 0 && r.kind == powerLossAfter {
		return nil // before the first Sync, nothing had to survive
	}
	if err != nil {
		return fmt.Errorf("state %d had to survive: %w", r.survive, err)
	}
	return nil
}

func (r *crashRun) checkCrash() error {
	var left *vfstest.Mem
	if r.kind == processKill {
		left = r.mem.KillClone()
	} else {
		left = r.mem.Crash(r.crash)
	}
	h := r.hooks
	h.fs = left
	if r.kind == processKill && r.crash.IntN(3) == 0 {
		var err error
		if left, err = r.loseAfterKill(left); err != nil {
			return fmt.Errorf("a loss of power after a kill: %w", err)
		}
		h.fs = left
	}
	if r.crash.IntN(4) == 0 { // crash once more, while recovering
		n := r.crash.Int64N(40) + 1
		var again *vfstest.Mem
		var mu sync.Mutex // files that a merge replaced are closed beside the rest
		h.fs = vfstest.Inject(left, func(op vfstest.Op, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			if n--; n == 0 {
				if r.kind == processKill {
					again = left.KillClone()
				} else {
					again = left.Crash(r.crash)
				}
			}
			return nil
		})
		s, err := open(crashDir, r.opts(), h)
		if err == nil {
			err = s.Close()
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil && again == nil {
			return fmt.Errorf("first opening: %w", err)
		}
		h.fs = left
		if again != nil {
			h.fs = again
		}
	}
	if r.survive == 0 {
		// Not even the store had to survive; but what is there must be whole.
		if _, err := left.Info(crashDir + "/" + manifestName); err != nil && r.kind != processKill {
			return nil
		}
	}
	s, err := open(crashDir, r.opts(), h)
	if err != nil {
		return err
	}
	got := map[string][]byte{}
	for c, err := range s.Scan(context.Background()) {
		if err != nil {
			return errors.Join(err, s.Close())
		}
		got[c.Key] = append(got[c.Key], c.Data...)
	}
	_, err = s.Verify(context.Background())
	_, removed := s.ledgers()
	r.removed += removed.Pieces
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	for i := r.begun; i >= r.survive; i-- {
		if maps.EqualFunc(got, r.states[i], bytes.Equal) {
			return nil
		}
	}
	return fmt.Errorf("%w: kind %d: %s", errFailed, r.kind, r.describe(got))
}

// loseAfterKill opens and syncs what a kill left, and then loses power.
func (r *crashRun) loseAfterKill(left *vfstest.Mem) (*vfstest.Mem, error) {
	h := r.hooks
	h.fs = left
	s, err := open(crashDir, r.opts(), h)
	if err != nil {
		return nil, err
	}
	if err := s.Sync(context.Background()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	lost := left.Crash(r.crash)
	return lost, s.Close()
}

func (r *crashRun) describe(got map[string][]byte) string {
	s := fmt.Sprintf("states %d to %d may be seen; found", r.survive, r.begun)
	for k, v := range got {
		s += fmt.Sprintf(" %s:%d", k, len(v))
	}
	for i := r.survive; i <= r.begun; i++ {
		s += fmt.Sprintf("; state %d:", i)
		for k, v := range r.states[i] {
			s += fmt.Sprintf(" %s:%d", k, len(v))
		}
	}
	return s
}

// run makes operations until enough crashes were checked.
func (r *crashRun) run(ops int) error {
	ctx := context.Background()
	r.armed = true
	s, err := open(crashDir, r.opts(), r.hooks)
	if err != nil {
		return err
	}
	n := 0
	for range ops {
		next := maps.Clone(r.states[len(r.states)-1])
		do := r.operation(next, &n)
		r.mu.Lock()
		r.states = append(r.states, next)
		r.begun = len(r.states) - 1
		r.mu.Unlock()
		synced, err := do(ctx, &s)
		if err != nil {
			return errors.Join(err, r.err)
		}
		r.mu.Lock()
		if r.kind != powerLossAfter || synced {
			r.survive = r.begun
		}
		err = r.err
		r.mu.Unlock()
		if err != nil {
			return errors.Join(err, s.Close())
		}
	}
	r.mu.Lock()
	r.armed = false
	r.mu.Unlock()
	return errors.Join(r.endScan(), s.Close(), r.err)
}

// crashes is how many crashes a test simulates: PARTD_CRASHES, or a number
// that takes seconds.
func crashes(t *testing.T, normally int) int {
	n, err := strconv.Atoi(os.Getenv("PARTD_CRASHES"))
	if err != nil {
		return normally
	}
	return n
}

// firstSeed is the seed that a test of crashes begins with: PARTD_CRASH_SEED, or 1.
// Each seed makes about 60 crashes, so that runs of a million can be divided.
func firstSeed() uint64 {
	n, err := strconv.ParseUint(os.Getenv("PARTD_CRASH_SEED"), 10, 64)
	if err != nil {
		return 1
	}
	return n
}

// No crash loses, tears or doubles an acknowledged operation.
func TestCrashes(t *testing.T) {
	want := crashes(t, 2000)
	done := 0
	first := firstSeed()
	seed := first
	removed := int64(0)
	for ; done < want; seed++ {
		for kind := range numCrashKinds {
			h := crashHooks
			if seed%3 > 0 {
				h.minMerge, h.mergeFull, h.mergeBytes = 3, 1<<20, 3<<10
			}
			if seed%4 > 0 {
				h.reclaimSlack = 1 << 10
			}
			if seed%4 == 3 { // with hot keys
				h.tableBytes, h.blobBytes, h.readBytes, h.mergeBytes = 16<<10, 2000, 16<<10, 12<<10
			}
			r := newCrashRun(kind, seed, h)
			if err := r.run(40); err != nil {
				t.Fatalf("kind %d, seed %d, after %d crashes: %v", kind, seed, done, err)
			}
			done += r.checked
			removed += r.removed
		}
	}
	if removed == 0 {
		t.Error("no merge left anything out")
	}
	t.Logf("%d crashes, seeds %d to %d, %d entries left out", done, first, seed-1, removed)
}

// With a protection taken out, the same test notices. Otherwise it would prove
// nothing.
func TestCrashesNotice(t *testing.T) {
	for name, take := range map[string]func(h *hooks){
		"sync":  func(h *hooks) { h.noSync = true },
		"CRC":   func(h *hooks) { h.noCRC = true },
		"epoch": func(h *hooks) { h.noEpoch = true },
	} {
		t.Run("without "+name, func(t *testing.T) {
			h := crashHooks
			take(&h)
			done := 0
			for seed := uint64(1); done < 20_000; seed++ {
				for kind := range numCrashKinds {
					r := newCrashRun(kind, seed, h)
					err := r.run(40)
					done += r.checked
					if err != nil {
						t.Logf("noticed after %d crashes: %.200v", done, err)
						return
					}
				}
			}
			t.Fatalf("%d crashes, and nothing was noticed", done)
		})
	}
}
