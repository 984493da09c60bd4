package objstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd/internal/testutil/procs"
)

const (
	sweeper    = 2 // index of the process that sweeps; the processes before it are writers
	crashSteps = 600
)

var (
	errKilled       = fmt.Errorf("the process was killed: %w", ErrRefused)
	errFalseRefusal = fmt.Errorf("403: %w", ErrRefused)
	keyNames        = []string{"a", "b", "c"}
)

// crashRun lets two writers and a sweeper use one bucket. One request is answered at a time, and the seed
// chooses which. It also chooses when a process dies, whether its last requests then arrive at the bucket at
// once, later or never, which answers are lost, wrong or cut, which requests arrive twice, which operations are
// canceled, and when hours pass. The log's order defines the content, so readers must see exactly that content after
// each death.
//
// Uploads of a living writer do not fail and do not lose their answers.
type crashRun struct {
	rnd        *rand.Rand
	opts       Options
	bucket     *Memory
	processes  []*process
	arrived    chan struct{} // receives a value after a process made a request or ended
	isEnding   bool          // no more faults, and processes end after their operation
	sweepSteps int           // number of steps in which only the sweeper runs, after hours have passed
	late       []*request    // requests that have not arrived yet, or that arrive again
	trace      io.Writer

	mu      sync.Mutex // guards the fields below and those of processes
	records map[member]*simulatedRecord
	states  []map[string]string // content after each record of the log
	live    map[string]bool     // objects to which the content refers
	counts  simulationCounts
	awake   chan struct{} // closed at the end of pass; until then, processes with an answer or a timeout wait
	err     error
}

type simulationCounts struct{ crashes, acknowledged, groups, swept, tooOld int }

// fail records the first error.
func (r *crashRun) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

func (r *crashRun) ends() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.isEnding || r.err != nil
}

// checkContent opens the bucket as a new process, and compares the content with the log's.
func (r *crashRun) checkContent() error {
	o := r.opts
	o.ReadOnly = true
	s, err := Open(context.Background(), r.bucket, &o)
	if err != nil {
		return err
	}
	got := map[string]string{}
	for c, err := range s.Scan(context.Background()) {
		if err != nil {
			return errors.Join(err, s.Close())
		}
		got[c.Key] += string(c.Data)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if want := r.states[len(r.states)-1]; !maps.Equal(got, want) {
		short := strings.NewReplacer("x", "").Replace(fmt.Sprintf("the content is %v, want %v", got, want))
		return fmt.Errorf("after %d crashes, %s", r.counts.crashes, short)
	}
	return s.Close()
}

// next waits until process p made a request or ended, and returns the request, or nil.
func (r *crashRun) next(p *process) *request {
	for {
		synctest.Wait()
		r.mu.Lock()
		if p.isDone || len(p.pending) > 0 {
			defer r.mu.Unlock()
			if len(p.pending) == 0 {
				return nil
			}
			slices.SortFunc(p.pending, func(a, b *request) int {
				return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name), bytes.Compare(a.data, b.data))
			})
			return p.pending[0]
		}
		r.mu.Unlock()
		<-r.arrived
	}
}

// answer removes the first request of p, and answers it.
func (r *crashRun) answer(p *process, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.pending[0].answer <- err
	p.pending = p.pending[1:]
}

// crash kills process p. Each of its requests arrives at once, later, or never.
func (r *crashRun) crash(p *process) error {
	r.mu.Lock()
	r.counts.crashes++
	p.bucket.isDead = true
	p.bucket.kill()
	pending := p.pending
	p.pending = nil
	r.mu.Unlock()
	for _, q := range pending {
		switch r.rnd.IntN(3) {
		case 0:
			_ = r.deliver(q) // ignore the error, because the process is dead
		case 1:
			r.late = append(r.late, q)
		}
		q.answer <- errKilled
	}
	return r.checkContent()
}

// waitAwake waits until the hours of pass are over.
func (r *crashRun) waitAwake() {
	r.mu.Lock()
	awake := r.awake
	r.mu.Unlock()
	<-awake
}

// pass lets hours pass, during which all processes sleep. Before that, the late requests of dead processes arrive. The
// first request of each other process is answered, arrives without an answer, or waits until the hours are over.
func (r *crashRun) pass() {
	for _, q := range r.late {
		_ = r.deliver(q)
	}
	r.late = nil
	awake := make(chan struct{})
	defer close(awake)
	for _, p := range r.processes {
		r.next(p)
	}
	r.mu.Lock()
	r.awake = awake
	r.mu.Unlock()
	for _, p := range r.processes {
		q := r.next(p)
		switch n := r.rnd.IntN(4); {
		case q == nil:
		case n == 0:
			_ = r.deliver(q)
		case n < 3:
			r.answer(p, r.deliver(q))
		}
	}
	r.sweepSteps = 40 * r.rnd.IntN(2)
	time.Sleep([]time.Duration{7, 28}[r.rnd.IntN(2)] * time.Hour)
}

// step answers one request.
func (r *crashRun) step(running []*process) error {
	p := running[r.rnd.IntN(len(running))]
	if r.sweepSteps--; r.sweepSteps > 0 && running[len(running)-1].index == sweeper {
		p = running[len(running)-1]
	}
	q := r.next(p)
	if q == nil || q.kind == "create" && strings.HasPrefix(q.name, "log/") && r.rnd.IntN(3) > 0 {
		return nil // delays commits, so that writers compete for a number
	}
	name, _, _ := strings.Cut(q.name, "sweep/") // the rest of such names is random
	fmt.Fprintln(r.trace, p.index, q.kind, name)
	n := r.rnd.IntN(1000)
	switch {
	case r.ends():
		n = 1000
	case n < 40:
		return r.crash(p)
	case n < 50:
		r.pass()
		return nil
	case n < 60 && len(r.late) > 0:
		late := r.late[0]
		r.late = r.late[1:]
		_ = r.deliver(late)
	case n < 70 && q.kind == "create":
		r.late = append(r.late, q)
	case n < 80 && p.cancel != nil:
		if n < 75 {
			r.late = append(r.late, q)
		}
		p.cancel()
		return nil
	case n < 100 && q.kind != "create" && len(p.pending) == 1:
		q.wrong = 1 + r.rnd.IntN(4)
	case n < 120 && len(p.pending) == 1 && !strings.HasPrefix(q.name, "seg/"):
		if n < 110 {
			_ = r.deliver(q) // its answer is lost
		}
		err := errServer
		if n%2 == 0 && q.kind == "create" {
			err = errFalseRefusal
		}
		r.answer(p, err)
		return nil
	}
	r.answer(p, r.deliver(q))
	return nil
}

// runCrashes runs a simulation. trace receives each request that was answered.
func runCrashes(t *testing.T, seed uint64, trace io.Writer) (counts simulationCounts, err error) {
	cryptotest.SetGlobalRandom(t, seed) // chooses the store's ID
	synctest.Test(t, func(*testing.T) {
		h := hooks{maxInline: []int64{-1, 100, 0}[seed%3]}
		r := &crashRun{
			rnd: rand.New(rand.NewPCG(seed, 0)), opts: Options{Memory: MinMemory, SegmentSize: 1, RetryFor: 2 * time.Hour, hooks: h},
			bucket: new(Memory), arrived: make(chan struct{}, 1), awake: make(chan struct{}), trace: trace,
			records: map[member]*simulatedRecord{}, states: []map[string]string{{}}, live: map[string]bool{storeName: true},
		}
		close(r.awake)
		s, openErr := Open(context.Background(), r.bucket, &r.opts) // creates the store
		if err = openErr; err != nil {
			return
		}
		if err = s.Close(); err != nil {
			return
		}
		for i := range sweeper + 1 {
			p := &process{run: r, index: i, rnd: rand.New(rand.NewPCG(seed, uint64(i+1)))}
			r.processes = append(r.processes, p)
			go p.live()
		}
		for i := 0; ; i++ {
			synctest.Wait()
			r.mu.Lock()
			r.isEnding = r.isEnding || i >= crashSteps
			running := slices.DeleteFunc(slices.Clone(r.processes), func(p *process) bool { return p.isDone })
			r.mu.Unlock()
			if len(running) == 0 {
				break
			}
			if err := r.step(running); err != nil {
				r.fail(err)
			}
		}
		counts, err = r.counts, r.err
		if err == nil {
			err = r.checkEnd()
		}
	})
	return counts, err
}

// checkEnd checks that Sweep, a day later, leaves the objects in use and no others.
func (r *crashRun) checkEnd() error {
	r.pass()
	time.Sleep(sweepAge)
	o := r.opts
	o.hooks.segmentAge = 0
	s, err := Open(context.Background(), r.bucket, &o)
	if err == nil {
		_, err = s.Sweep(context.Background())
		err = errors.Join(err, s.Close())
	}
	if err = errors.Join(err, r.checkContent()); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	for name := range r.bucket.objects {
		if !r.live[name] && !strings.HasPrefix(name, "log/") {
			return fmt.Errorf("at the end, Sweep left the unused object %s", name)
		}
	}
	return nil
}

// crashNumbers returns the number of crashes to simulate and the first seed. The environment variables
// PARTD_CRASHES and PARTD_CRASH_SEED override the defaults.
func crashNumbers() (count int, seed uint64) {
	count, seed = 3000, rand.Uint64N(1<<32)
	if procs.RaceEnabled {
		count = 300
	}
	if n, err := strconv.Atoi(os.Getenv("PARTD_CRASHES")); err == nil {
		count = n
	}
	if n, err := strconv.ParseUint(os.Getenv("PARTD_CRASH_SEED"), 10, 64); err == nil {
		seed = n
	}
	return count, seed
}

// TestCrashes checks that no death of a writer or of the sweeper, at any request, loses or doubles a change,
// and that the sweeper removes all unused objects and no others.
func TestCrashes(t *testing.T) {
	count, first := crashNumbers()
	var total simulationCounts
	seed := first
	for ; total.crashes < count; seed++ {
		n, err := runCrashes(t, seed, io.Discard)
		if err != nil {
			t.Fatalf("after %d crashes; repeat it with PARTD_CRASH_SEED=%d: %v", total.crashes+n.crashes, seed, err)
		}
		total.crashes += n.crashes
		total.acknowledged += n.acknowledged
		total.groups += n.groups
		total.swept += n.swept
		total.tooOld += n.tooOld
	}
	t.Logf("seeds %d to %d: %+v", first, seed-1, total)
	if count >= 3000 && min(total.acknowledged, total.groups, total.swept, total.tooOld) < 30 {
		t.Errorf("counts: %+v, want at least 30 of each", total)
	}
}

// TestCrashesAreReproducible checks that a seed determines the requests and their order.
func TestCrashesAreReproducible(t *testing.T) {
	for seed := range uint64(4) {
		a, b := fnv.New64(), fnv.New64()
		countsA, errA := runCrashes(t, seed, a)
		countsB, errB := runCrashes(t, seed, b)
		if err := errors.Join(errA, errB); err != nil {
			t.Error(err)
		}
		if a.Sum64() != b.Sum64() || countsA != countsB {
			t.Errorf("seed %d: the first run had %+v, the second %+v, or another order of requests", seed, countsA, countsB)
		}
	}
}
