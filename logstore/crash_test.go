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

// crashHooks make the tables in memory so small that a few appends fill one.
var crashHooks = hooks{tableBytes: 4 << 10, blobBytes: 400, readBytes: 4 << 10, batchBytes: 1 << 10, walStep: 512}

type crashKind uint8

const (
	powerLossSync  crashKind = iota // power loss of a store with Sync
	powerLossAfter                  // power loss of a store that sometimes calls Sync
	processKill                     // death of the process
	numCrashKinds
)

// crashRun performs random operations on one store, and crashes it at random calls of the file
// system. After each crash it reopens the store, whose content must equal one of the states with
// the indexes survive to begun.
type crashRun struct {
	kind  crashKind
	hooks hooks
	rnd   *rand.Rand

	mem           *vfstest.Mem
	mu            sync.Mutex // guards the fields that the file system's hook uses
	enabled       bool
	crash         *rand.Rand
	crashInterval int

	states     []map[string][]byte // content after each operation
	survive    int                 // index of the state that must survive
	begun      int                 // index of the latest possible state
	numChecked int                 // number of crashes checked
	err        error               // first failed check

	finishScan     func() error // finishes a Scan
	droppedEntries int64        // number of entries that merges dropped, counted after crashes
}

var errFailed = errors.New("the check of a crash failed")

func newCrashRun(kind crashKind, seed uint64, h hooks) *crashRun {
	r := &crashRun{
		kind: kind, hooks: h, rnd: rand.New(rand.NewPCG(seed, 1)), crash: rand.New(rand.NewPCG(seed, 2)),
		mem: vfstest.NewMem(), crashInterval: 12, states: []map[string][]byte{{}},
	}
	r.mem.ZeroLostPages = r.rnd.IntN(2) == 0
	r.hooks.fs = vfstest.Inject(r.mem, r.beforeCall)
	return r
}

func (r *crashRun) beforeCall(op vfstest.Op, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.enabled || !op.Changes() || r.err != nil || r.crash.IntN(r.crashInterval) != 0 {
		return nil
	}
	r.err = r.check()
	return nil
}

func (r *crashRun) options() *Options {
	return &Options{Memory: MinMemory, FileSize: 20 << 10, Sync: r.kind == powerLossSync, MaxSessions: 3}
}

func (r *crashRun) check() error {
	r.numChecked++
	err := r.checkCrash()
	if err != nil && r.survive == 0 && r.kind == powerLossAfter {
		return nil // before the first Sync, nothing needs to survive
	}
	if err != nil {
		return fmt.Errorf("state %d did not survive: %w", r.survive, err)
	}
	return nil
}

func (r *crashRun) checkCrash() error {
	var crashed *vfstest.Mem
	if r.kind == processKill {
		crashed = r.mem.KillClone()
	} else {
		crashed = r.mem.Crash(r.crash)
	}
	h := r.hooks
	h.fs = crashed
	if r.kind == processKill && r.crash.IntN(3) == 0 {
		var err error
		if crashed, err = r.loseAfterKill(crashed); err != nil {
			return fmt.Errorf("opening or syncing the store after a kill: %w", err)
		}
		h.fs = crashed
	}
	if r.crash.IntN(4) == 0 { // crash again during recovery
		n := r.crash.Int64N(40) + 1
		var secondCrash *vfstest.Mem
		var mu sync.Mutex // a merge closes replaced files concurrently
		h.fs = vfstest.Inject(crashed, func(op vfstest.Op, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			if n--; n == 0 {
				if r.kind == processKill {
					secondCrash = crashed.KillClone()
				} else {
					secondCrash = crashed.Crash(r.crash)
				}
			}
			return nil
		})
		s, err := open(crashDir, r.options(), h)
		if err == nil {
			err = s.Close()
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil && secondCrash == nil {
			return fmt.Errorf("opening and closing the store after a crash: %w", err)
		}
		h.fs = crashed
		if secondCrash != nil {
			h.fs = secondCrash
		}
	}
	if r.survive == 0 {
		// The store itself need not have survived, but if it exists, it must be intact.
		if _, err := crashed.Info(crashDir + "/" + manifestName); err != nil && r.kind != processKill {
			return nil
		}
	}
	s, err := open(crashDir, r.options(), h)
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
	_, droppedEntries := s.ledgers()
	r.droppedEntries += droppedEntries.Pieces
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

// loseAfterKill opens and syncs the files after a kill, and then simulates a power loss.
func (r *crashRun) loseAfterKill(killed *vfstest.Mem) (*vfstest.Mem, error) {
	h := r.hooks
	h.fs = killed
	s, err := open(crashDir, r.options(), h)
	if err != nil {
		return nil, err
	}
	if err := s.Sync(context.Background()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	crashed := killed.Crash(r.crash)
	return crashed, s.Close()
}

func (r *crashRun) describe(got map[string][]byte) string {
	s := fmt.Sprintf("states %d to %d are allowed; the store contains (key:length)", r.survive, r.begun)
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

// run performs a number of operations, during which beforeCall simulates and checks crashes.
func (r *crashRun) run(ops int) error {
	ctx := context.Background()
	r.enabled = true
	s, err := open(crashDir, r.options(), r.hooks)
	if err != nil {
		return err
	}
	n := 0
	for range ops {
		next := maps.Clone(r.states[len(r.states)-1])
		do := r.nextOperation(next, &n)
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
	r.enabled = false
	r.mu.Unlock()
	return errors.Join(r.endScan(), s.Close(), r.err)
}

// crashCount returns the number of crashes to simulate: PARTD_CRASHES or, if it is unset, defaultCount.
func crashCount(t *testing.T, defaultCount int) int {
	n, err := strconv.Atoi(os.Getenv("PARTD_CRASHES"))
	if err != nil {
		return defaultCount
	}
	return n
}

// firstSeed returns the first seed of a crash test: the value of PARTD_CRASH_SEED, or 1. Each
// seed simulates about 60 crashes, so a run of a million crashes can be divided.
func firstSeed() uint64 {
	n, err := strconv.ParseUint(os.Getenv("PARTD_CRASH_SEED"), 10, 64)
	if err != nil {
		return 1
	}
	return n
}

// TestCrashes checks that a crash does not lose, tear or duplicate an acknowledged operation.
func TestCrashes(t *testing.T) {
	want := crashCount(t, 2000)
	done := 0
	first := firstSeed()
	seed := first
	droppedEntries := int64(0)
	for ; done < want; seed++ {
		for kind := range numCrashKinds {
			h := crashHooks
			if seed%3 > 0 {
				h.minMerge, h.smallLen, h.mergeBytes = 3, 1<<20, 3<<10
			}
			if seed%4 > 0 {
				h.reclaimSlack = 1 << 10
			}
			if seed%4 == 3 { // include hot keys
				h.tableBytes, h.blobBytes, h.readBytes, h.mergeBytes = 16<<10, 2000, 16<<10, 12<<10
			}
			r := newCrashRun(kind, seed, h)
			if err := r.run(40); err != nil {
				t.Fatalf("kind %d, seed %d, after %d crashes: %v", kind, seed, done, err)
			}
			done += r.numChecked
			droppedEntries += r.droppedEntries
		}
	}
	if droppedEntries == 0 {
		t.Error("no merge dropped dead entries, want some, so that the test covers them")
	}
	t.Logf("%d crashes, seeds %d to %d, %d entries dropped", done, first, seed-1, droppedEntries)
}

// TestCrashesDetectMissingProtection checks that the crash test fails if one of the protections is disabled.
func TestCrashesDetectMissingProtection(t *testing.T) {
	for name, disable := range map[string]func(h *hooks){
		"sync":  func(h *hooks) { h.noSync = true },
		"CRC":   func(h *hooks) { h.noCRC = true },
		"epoch": func(h *hooks) { h.noEpoch = true },
	} {
		t.Run("without "+name, func(t *testing.T) {
			h := crashHooks
			disable(&h)
			done := 0
			for seed := uint64(1); done < 20_000; seed++ {
				for kind := range numCrashKinds {
					r := newCrashRun(kind, seed, h)
					err := r.run(40)
					done += r.numChecked
					if err != nil {
						t.Logf("detected after %d crashes: %.200v", done, err)
						return
					}
				}
			}
			t.Fatalf("the missing protection was not detected in %d crashes", done)
		})
	}
}
