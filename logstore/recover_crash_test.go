package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

const crashDir = "/data/store"

// crashHooks make the tables in memory so small that a few appends fill one.
var crashHooks = hooks{tableBytes: 4 << 10, blobBytes: 400, readBytes: 4 << 10, batchBytes: 1 << 10, walStep: 512}

func crashHooksOn(fs vfs.FS) hooks {
	h := crashHooks
	h.fs = fs
	return h
}

type crashKind uint8

const (
	powerLossSync  crashKind = iota // power loss of a store with Sync
	powerLossAfter                  // power loss of a store that sometimes calls Sync
	processKill                     // death of the process
	numCrashKinds
)

// crashRun performs random operations on one store, and crashes it at random calls of the file
// system, and during some operations at every call that changes the disk. After each crash it reopens
// the store. Its content must equal states[i] for some i from survive to begun.
type crashRun struct {
	kind    crashKind
	hooks   hooks
	seed    uint64
	inOrder bool // seals and merges end before the next operation, so that the seed repeats the run
	rnd     *rand.Rand

	mem           *vfstest.Mem
	mu            sync.Mutex // guards the fields that the file system's hook uses
	enabled       bool
	points        *rand.Rand // chooses the calls at which the store crashes
	truncations   *rand.Rand // chooses the truncations at which the store crashes; these run concurrently with other calls
	calls         uint64     // number of calls that change the disk, except truncations
	everyCall     bool       // the store crashes at every call
	crash         *rand.Rand // chooses what a crash leaves
	crashInterval int
	crashedAt     map[string]int // number of crashes by kind of call

	states     []map[string][]byte // content after each operation
	survive    int                 // index of the state that must survive
	begun      int                 // index of the latest possible state
	numChecked int                 // number of crashes checked
	err        error               // first failed check

	synced     int          // index of the last state that Sync made durable, or 0
	left       *vfstest.Mem // what the last crash left
	leftState  int          // index in states of the content of left
	leftSynced int          // value of synced at the last crash

	finishScan     func() error // finishes a Scan
	droppedEntries int64        // number of entries that merges dropped, counted after crashes
}

var errFailed = errors.New("the check of a crash failed")

func newCrashRun(kind crashKind, seed uint64, h hooks) *crashRun {
	r := &crashRun{
		kind: kind, hooks: h, seed: seed, inOrder: seed%2 == 0, rnd: rand.New(rand.NewPCG(seed, 1)),
		points: rand.New(rand.NewPCG(seed, 2)), truncations: rand.New(rand.NewPCG(seed, 3)),
		mem: vfstest.NewMem(), crashInterval: 12, crashedAt: map[string]int{}, states: []map[string][]byte{{}},
	}
	r.mem.ZeroLostPages = r.rnd.IntN(2) == 0
	r.hooks.fs = vfstest.Inject(r.mem, r.beforeCall)
	return r
}

// continueAfterCrash makes the next run continue from what the last crash left. After a kill, the next run
// simulates power losses, which may lose unsynced data of the killed process.
func (r *crashRun) continueAfterCrash() {
	r.mem = r.left
	r.states = r.states[:r.leftState+1]
	r.survive, r.begun = r.leftState, r.leftState
	if r.kind != powerLossSync {
		r.kind, r.survive = powerLossAfter, r.leftSynced
	}
	r.hooks.fs = vfstest.Inject(r.mem, r.beforeCall)
}

func (r *crashRun) beforeCall(op vfstest.Op, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.enabled || !op.Changes() || r.err != nil {
		return nil
	}
	points := r.truncations
	if op != vfstest.OpTruncate {
		points = r.points
		r.calls++
	}
	if points.IntN(r.crashInterval) != 0 && !r.everyCall {
		return nil
	}
	r.crashedAt[op.String()+" "+strings.Trim(path.Base(name), "0123456789.")]++
	// Seed each crash separately, so that a concurrent truncation does not change what later crashes leave.
	r.crash = rand.New(rand.NewPCG(r.seed, 4+r.calls))
	r.err = r.check()
	return nil
}

func (r *crashRun) options() *Options {
	return &Options{Memory: MinMemory, FileSize: 20 << 10, Sync: r.kind == powerLossSync, MaxSessions: 3}
}

func (r *crashRun) check() error {
	r.numChecked++
	err := r.checkCrash()
	if err != nil && r.mayBeMissing() && r.kind == powerLossAfter {
		return nil // before the first Sync, a crash may lose any file, so the content may mix several states (L3)
	}
	if err != nil {
		return fmt.Errorf("state %d did not survive: %w", r.survive, err)
	}
	return nil
}

// mayBeMissing reports whether a crash may lose the whole store, because nothing had to survive yet.
func (r *crashRun) mayBeMissing() bool { return r.survive == 0 }

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
		s, err := openHooked(crashDir, r.options(), h)
		if err == nil {
			err = s.Close()
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil && secondCrash == nil {
			return fmt.Errorf("opening and closing the store after a crash: %w", err)
		}
		if secondCrash != nil {
			crashed = secondCrash
		}
		h.fs = crashed
	}
	if r.mayBeMissing() {
		// The store itself need not have survived, but if it exists, it must be intact.
		if _, err := crashed.Info(crashDir + "/" + manifestName); err != nil && r.kind != processKill {
			return nil
		}
	}
	left := crashed.KillClone() // before recovery
	s, err := openHooked(crashDir, r.options(), h)
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
	_, err = s.verify(context.Background())
	_, droppedEntries := s.ledgers()
	r.droppedEntries += droppedEntries.Pieces
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	for i := r.begun; i >= r.survive; i-- {
		if maps.EqualFunc(got, r.states[i], bytes.Equal) {
			r.left, r.leftState, r.leftSynced = left, i, min(r.synced, i)
			return nil
		}
	}
	return fmt.Errorf("%w: kind %d: %s", errFailed, r.kind, r.describe(got))
}

// loseAfterKill opens and syncs the files after a kill, and then simulates a power loss.
func (r *crashRun) loseAfterKill(killed *vfstest.Mem) (*vfstest.Mem, error) {
	h := r.hooks
	h.fs = killed
	s, err := openHooked(crashDir, r.options(), h)
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
	s, err := openHooked(crashDir, r.options(), r.hooks)
	if err != nil {
		return err
	}
	n := len(r.states) * 10 // values differ from those of an earlier run
	for range ops {
		next := maps.Clone(r.states[len(r.states)-1])
		do := r.nextOperation(next, &n)
		everyCall := r.rnd.IntN(r.crashInterval) == 0
		r.mu.Lock()
		r.states = append(r.states, next)
		r.begun = len(r.states) - 1
		r.everyCall = everyCall
		r.mu.Unlock()
		if r.inOrder {
			if err := flushAndSettle(ctx, s); err != nil {
				return errors.Join(err, r.err)
			}
		}
		synced, err := do(ctx, &s)
		if err != nil {
			return errors.Join(err, r.err)
		}
		r.mu.Lock()
		if r.kind != powerLossAfter || synced {
			r.survive = r.begun
		}
		if synced {
			r.synced = r.begun
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

// TestCrashes checks that a crash does not lose, tear or duplicate an acknowledged operation.
func TestCrashes(t *testing.T) {
	want := crashCount(t, 5000)
	if procs.RaceEnabled {
		want = min(want, 2000)
	}
	done := 0
	first := firstSeed()
	seed := first
	droppedEntries := int64(0)
	crashedAt := map[string]int{}
	for ; done < want; seed++ {
		for kind := range numCrashKinds {
			r, err := runLives(t, kind, seed)
			if err != nil {
				t.Fatalf("kind %d, after %d crashes; repeat it with PARTD_CRASH_SEED=%d: %v", kind, done, seed, err)
			}
			for call, n := range r.crashedAt {
				crashedAt[call] += n
			}
			done += r.numChecked
			droppedEntries += r.droppedEntries
		}
	}
	if droppedEntries == 0 {
		t.Error("no merge dropped dead entries, want some, so that the test covers them")
	}
	for _, call := range []string{
		"write wal-", "write seg-", "write blob-", "write MANIFEST.tmp", "sync wal-", "sync seg-", "sync blob-", "sync MANIFEST.tmp",
		"rename MANIFEST.tmp", "syncdir store", "open wal-", "open seg-", "remove wal-", "remove seg-", "truncate wal-",
	} {
		if crashedAt[call] == 0 && want >= 5000 {
			t.Errorf("no crash before a call %q, want some", call)
		}
	}
	t.Logf("%d crashes, seeds %d to %d, %d entries dropped, by kind of call: %v", done, first, seed-1, droppedEntries, crashedAt)
}

// TestCrashesAreReproducible checks that a seed whose operations run in order repeats a run: the same calls, and the
// same crashes. A merge may overlap with the end of an operation in one run and not in the next, so it tries often.
func TestCrashesAreReproducible(t *testing.T) {
	for kind := range numCrashKinds {
		first := must.Get(runLives(t, kind, 2))(t)
		for attempts := 1; ; attempts++ {
			r := must.Get(runLives(t, kind, 2))(t)
			if r.calls == first.calls && maps.Equal(r.crashedAt, first.crashedAt) {
				break
			}
			if attempts == 50 {
				t.Errorf("kind %d: none of %d runs repeated the first one, which made %d calls and crashed at %v", kind, attempts, first.calls, first.crashedAt)
				break
			}
		}
	}
}
