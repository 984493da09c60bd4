package objstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"iter"
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

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/race"
)

const (
	sweeper    = 2 // index of the process that sweeps; the processes before it are writers
	crashSteps = 600
)

var (
	errKilled = fmt.Errorf("the process was killed: %w", ErrRefused)
	keyNames  = []string{"a", "b", "c"}
)

// crashRun lets two writers and a sweeper use one bucket. One request is answered at a time, and the seed
// chooses which. It also chooses when a process dies, whether the request it waits for then arrives, at once
// or later, which answers are lost, and when hours pass. The log's order defines the content, so readers
// must see exactly that content after each death.
//
// Uploads of a living writer do not fail and do not lose their answers, and listings are never stale.
type crashRun struct {
	rnd        *rand.Rand
	opts       Options
	bucket     *Memory
	processes  []*process
	arrived    chan struct{} // receives a value after a process made a request or ended
	isEnding   bool          // no more faults, and processes end after their operation
	sweepSteps int           // number of steps in which only the sweeper runs, after hours have passed
	late       []*request    // requests of dead processes that have not arrived yet
	trace      io.Writer

	mu      sync.Mutex // guards the fields below and those of processes
	records map[member]*simulatedRecord
	states  []map[string]string // content after each record of the log
	live    map[string]bool     // objects to which the content refers
	counts  simulationCounts
	awake   chan struct{} // closed when hours have passed, until which timed-out requests wait
	err     error
}

type simulationCounts struct{ crashes, acknowledged, groups, swept, tooOld int }

// simulatedRecord is a record that a writer tried to commit.
type simulatedRecord struct {
	op        operation
	body      []byte // the record without its head
	ops       []simulatedOp
	isApplied bool
	isRefused bool // its writer was told that it has no effect
}

type simulatedOp struct {
	kind       simulatedKind
	key, value string
}

type simulatedKind uint8

const (
	simulatedAppend simulatedKind = iota
	simulatedSet
	simulatedDelete
	simulatedOnce
	simulatedDrop
)

func (o *simulatedOp) apply(state map[string]string) {
	switch o.kind {
	case simulatedAppend:
		state[o.key] += o.value
	case simulatedSet:
		state[o.key] = o.value
	case simulatedDelete:
		delete(state, o.key)
	case simulatedOnce:
		if _, exists := state[o.key]; !exists {
			state[o.key] = o.value
		}
	case simulatedDrop:
		clear(state)
	}
}

// process is a writer or the sweeper, which starts again after it died.
type process struct {
	run      *crashRun
	index    int
	rnd      *rand.Rand
	bucket   *processBucket // that of the current life
	pending  []*request
	buffer   []simulatedOp    // operations that no record contains yet
	separate []simulatedOp    // an operation that gets its own record
	own      *simulatedRecord // the record of that operation, or nil
	records  []*simulatedRecord
	isDone   bool
}

// request is a request that waits for its answer.
type request struct {
	kind, name string
	data       []byte
	answer     chan error
}

// processBucket is the bucket as one life of a process sees it.
type processBucket struct {
	*Memory
	process *process
	isDead  bool
	kill    context.CancelFunc
}

// wait waits for the answer to a request.
func (b *processBucket) wait(ctx context.Context, kind, name string, data []byte) error {
	p := b.process
	r := &request{kind, name, data, make(chan error, 1)}
	p.run.mu.Lock()
	if b.isDead {
		p.run.mu.Unlock()
		return errKilled
	}
	if kind == "create" {
		p.noteRecord(name, data)
	}
	p.pending = append(p.pending, r)
	p.run.mu.Unlock()
	p.run.signal()
	select {
	case err := <-r.answer:
		p.run.waitAwake()
		return err
	case <-ctx.Done():
		p.run.waitAwake()
		p.run.mu.Lock()
		defer p.run.mu.Unlock()
		p.pending = slices.DeleteFunc(p.pending, func(o *request) bool { return o == r })
		return ctx.Err()
	}
}

func (b *processBucket) Create(ctx context.Context, name string, data []byte) error {
	return b.wait(ctx, "create", name, bytes.Clone(data))
}

func (b *processBucket) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := b.wait(ctx, "read", name, fmt.Append(nil, offset)); err != nil {
		return nil, err
	}
	return b.Memory.ReadRange(ctx, name, offset, length)
}

func (b *processBucket) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if err := b.wait(ctx, "list", prefix, []byte(after)); err != nil {
			yield(Object{}, err)
			return
		}
		for o, err := range b.Memory.List(ctx, prefix, after) {
			if !yield(o, err) {
				return
			}
		}
	}
}

func (b *processBucket) Delete(ctx context.Context, name string) error {
	return b.wait(ctx, "delete", name, nil)
}

func (r *crashRun) signal() {
	select {
	case r.arrived <- struct{}{}:
	default:
	}
}

// fail records the first error.
func (r *crashRun) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// parseCreated parses the object of a log record or of a waiting record. ok is false for other objects.
func (r *crashRun) parseCreated(name string, data []byte) (rec *record, ok bool) {
	number, isLog := strings.CutPrefix(name, "log/")
	n, _ := strconv.ParseUint(number, 10, 64)
	if m, isWaiting := parseMember(Object{Name: name}); isWaiting {
		n, isLog = m.number, true
	}
	if !isLog {
		return nil, false
	}
	s, err := r.bucket.object(storeName)
	if err != nil {
		return nil, false
	}
	format, err := parseStore(s)
	if err != nil {
		return nil, false
	}
	rec, err = parseRecord(format, n, data)
	return rec, err == nil
}

// noteRecord notes what a record contains: all operations since the previous record, or a separate one.
func (p *process) noteRecord(name string, data []byte) {
	rec, ok := p.run.parseCreated(name, data)
	if !ok || rec.op == opGroup {
		return
	}
	key := member{writer: rec.writer, seq: rec.seq}
	sim := p.run.records[key]
	if sim == nil || sim.isRefused {
		sim = &simulatedRecord{}
		p.records = append(p.records, sim)
		p.run.records[key] = sim
	}
	body := data[recordHeadLen:]
	switch {
	case rec.op == sim.op && bytes.Equal(body, sim.body): // another attempt
		return
	case rec.op != opEntries:
		sim.ops, p.separate, p.own = p.separate, nil, sim
	case sim.op == opEntries: // the previous attempt created nothing, and the record now contains more
		sim.ops, p.buffer = append(sim.ops, p.buffer...), nil
	default:
		sim.ops, p.buffer = p.buffer, nil
	}
	sim.op, sim.body = rec.op, body
}

func (m *Memory) object(name string) ([]byte, error) {
	b, err := m.ReadRange(context.Background(), name, 0, -1)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(b)
}

// deliver carries out a request, and applies the records that it adds to the log.
func (r *crashRun) deliver(q *request) error {
	ctx := context.Background()
	switch q.kind {
	case "delete":
		return r.bucket.Delete(ctx, q.name)
	case "create":
		if err := r.bucket.Create(ctx, q.name, q.data); err != nil {
			return err
		}
	default:
		return nil // the process reads after the answer
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, ok := r.parseCreated(q.name, q.data)
	switch {
	case !ok || !strings.HasPrefix(q.name, "log/"):
	case rec.op == opGroup:
		r.counts.groups++
		for _, m := range rec.members {
			b, err := r.bucket.object(m.name())
			waiting, ok := r.parseCreated(m.name(), b)
			if err != nil || !ok {
				return fmt.Errorf("group %s names the record %s, which cannot be read: %w", q.name, m.name(), err)
			}
			r.apply(waiting, m.name())
		}
	default:
		r.apply(rec, "")
	}
	return nil
}

// apply applies a record of the log, unless an earlier group contained it. mu must be held.
func (r *crashRun) apply(rec *record, object string) {
	sim := r.records[member{writer: rec.writer, seq: rec.seq}]
	if sim.isApplied {
		return
	}
	if sim.isRefused && r.err == nil {
		r.err = fmt.Errorf("record %d of writer %s is in the log, although the writer got an error with a known outcome", rec.seq, rec.writer)
	}
	sim.isApplied = true
	state := maps.Clone(r.states[len(r.states)-1])
	for i := range sim.ops {
		sim.ops[i].apply(state)
	}
	r.states = append(r.states, state)
	if rec.op == opDrop {
		maps.DeleteFunc(r.live, func(name string, _ bool) bool { return strings.HasPrefix(name, "seg/") })
	}
	if object != "" {
		r.live[object] = true
	}
	for _, part := range rec.parts {
		if !part.inline {
			r.live[segmentName(rec.writer, part.segmentNumber)] = true
		}
	}
}

// acknowledged checks that the log contains everything that a process has written.
func (p *process) acknowledged() {
	p.run.mu.Lock()
	defer p.run.mu.Unlock()
	p.run.counts.acknowledged++
	isLost := len(p.buffer) > 0 || slices.ContainsFunc(p.records, func(s *simulatedRecord) bool { return !s.isApplied })
	if isLost && p.run.err == nil {
		p.run.err = fmt.Errorf("process %d: an acknowledged change is not in the log", p.index)
	}
}

// live runs the process, again and again after it died or closed its store.
func (p *process) live() {
	defer func() {
		p.run.mu.Lock()
		p.isDone = true
		p.run.mu.Unlock()
		p.run.signal()
	}()
	for life := 0; !p.run.ends(); life++ {
		ctx, kill := context.WithCancel(context.Background())
		p.run.mu.Lock()
		p.bucket = &processBucket{Memory: p.run.bucket, process: p, kill: kill}
		p.buffer, p.separate, p.own, p.records = nil, nil, nil, nil
		b := p.bucket
		p.run.mu.Unlock()
		opts := p.run.opts
		if p.index == sweeper {
			opts.hooks.segmentAge = 0
		}
		var s *Store
		var err error
		if p.rnd.IntN(4) == 0 {
			s, err = Open(ctx, b, &opts)
		} else if s, err = Open(ctx, b.Memory, &opts); err == nil {
			s.bucket = b
		}
		if err == nil {
			s.writer = writerID([]byte(fmt.Sprintf("%4d%12d", p.index, life))) // not random, so that the seed repeats the run
			if err = p.work(ctx, s); err == nil {
				if err = s.Close(); err == nil {
					p.acknowledged()
				}
			}
			if err != nil && !s.closed.Load() {
				s.closeBroken()
			}
		}
		kill()
		if err != nil && !errors.Is(err, errKilled) && !errors.Is(err, context.Canceled) && !isLateError(err) {
			p.run.fail(fmt.Errorf("process %d, life %d: %w", p.index, life, err))
		}
	}
}

// isLateError reports whether a request took too long, because hours have passed.
func isLateError(err error) bool {
	return errors.Is(err, partd.ErrUnknownOutcome) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, errTooOld) || errors.Is(err, errServer)
}

// work runs operations until one fails so that the process must end. It returns nil if the process ends by itself.
func (p *process) work(ctx context.Context, s *Store) error {
	for i := range 3 + p.rnd.IntN(12) {
		if p.run.ends() {
			return nil
		}
		err := p.operate(ctx, s, i)
		if errors.Is(err, errTooOld) {
			p.run.mu.Lock()
			p.run.counts.tooOld++
			p.run.mu.Unlock()
		}
		if err != nil && (ctx.Err() != nil || !isLateError(err) || errors.Is(err, errTooOld)) {
			return err
		}
	}
	return nil
}

// operate runs one operation.
func (p *process) operate(ctx context.Context, s *Store, i int) error {
	if p.index == sweeper && p.rnd.IntN(3) > 0 {
		swept, err := s.Sweep(ctx)
		p.run.mu.Lock()
		defer p.run.mu.Unlock()
		p.run.counts.swept += int(swept.Objects)
		return err
	}
	key := keyNames[p.rnd.IntN(len(keyNames))]
	value := fmt.Sprintf("%d.%d.%s;", p.index, i, strings.Repeat("x", p.rnd.IntN(2)*p.rnd.IntN(200)))
	if x := p.rnd.IntN(20); x < 9 {
		err := s.Append(ctx, partd.Entry{Key: key, Value: []byte(value)})
		if err == nil {
			p.add(&p.buffer, simulatedAppend, key, value)
		}
		return err
	} else if x < 15 {
		err := p.check(s.Flush(ctx))
		for _, key := range keyNames {
			if err == nil && x < 11 {
				err = p.get(ctx, s, key)
			}
		}
		return err
	} else if x < 17 {
		return p.get(ctx, s, key)
	}
	switch p.rnd.IntN(8) {
	case 0:
		p.add(&p.separate, simulatedDrop, "", "")
		return p.check(s.Drop(ctx))
	case 1, 2:
		p.add(&p.buffer, simulatedDelete, key, "")
		return p.check(s.Delete(ctx, key))
	case 3, 4:
		p.add(&p.buffer, simulatedSet, key, value)
		return p.check(s.Set(ctx, key, []byte(value)))
	default:
		p.add(&p.separate, simulatedOnce, key, value)
		return p.check(s.SetOnce(ctx, key, []byte(value)))
	}
}

func (p *process) add(ops *[]simulatedOp, kind simulatedKind, key, value string) {
	p.run.mu.Lock()
	defer p.run.mu.Unlock()
	if ops == &p.separate {
		*ops = nil
	}
	*ops = append(*ops, simulatedOp{kind, key, value})
}

// check checks an acknowledgment, unless err is an error. After an error with a known outcome, an operation with
// its own record must have no effect, now or later.
func (p *process) check(err error) error {
	if err == nil {
		p.acknowledged()
	}
	p.run.mu.Lock()
	defer p.run.mu.Unlock()
	own := p.own
	p.separate, p.own = nil, nil
	if err == nil {
		return nil
	}
	if !errors.Is(err, partd.ErrUnknownOutcome) && !errors.Is(err, errKilled) {
		if own != nil && own.isApplied && p.run.err == nil {
			p.run.err = fmt.Errorf("process %d: its record is in the log, but the outcome of %w is known", p.index, err)
		}
		p.records = slices.DeleteFunc(p.records, func(s *simulatedRecord) bool {
			s.isRefused = s.op != opEntries && !s.isApplied
			return s.isRefused
		})
	}
	return err
}

// get reads a key. The value must have been current during the read. If the store was dropped meanwhile, the read may
// fail, because Sweep may remove the objects.
func (p *process) get(ctx context.Context, s *Store, key string) error {
	p.run.mu.Lock()
	first := len(p.run.states) - 1
	p.run.mu.Unlock()
	v, err := s.Get(ctx, key)
	if err == nil {
		p.acknowledged()
	}
	p.run.mu.Lock()
	defer p.run.mu.Unlock()
	isEmpty := func(state map[string]string) bool { return len(state) == 0 }
	if errors.Is(err, fs.ErrNotExist) && slices.ContainsFunc(p.run.states[first:], isEmpty) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, state := range p.run.states[first:] {
		if state[key] == string(v[0]) {
			return nil
		}
	}
	return fmt.Errorf("Get(%s) = %q, want a value of the states %v", key, v[0], p.run.states[first:])
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
			_ = r.deliver(q) // if it fails, nobody learns of it
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

// pass lets hours pass, during which all processes sleep. Requests of dead processes arrive before, and some
// requests of the others: their answers are lost, or they are waiting when the processes continue.
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
	case n < 80 && len(p.pending) == 1 && !strings.HasPrefix(q.name, "seg/"):
		if n < 70 {
			_ = r.deliver(q) // its answer is lost
		}
		r.answer(p, errServer)
		return nil
	}
	r.answer(p, r.deliver(q))
	return nil
}

// runCrashes runs a simulation. trace receives each request that was answered.
func runCrashes(t *testing.T, seed uint64, h hooks, steps int, trace io.Writer) (counts simulationCounts, err error) {
	cryptotest.SetGlobalRandom(t, seed) // chooses the store's ID
	synctest.Test(t, func(*testing.T) {
		h.maxInline = []int64{-1, 100, 0}[seed%3]
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
			r.isEnding = r.isEnding || i >= steps
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

// crashNumbers returns the number of crashes to simulate, PARTD_CRASHES or 10,000, and the first seed,
// PARTD_CRASH_SEED or 1.
func crashNumbers() (count int, seed uint64) {
	count, seed = 10_000, 1
	if race.Enabled {
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
		n, err := runCrashes(t, seed, hooks{}, crashSteps, io.Discard)
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
	if count >= 10_000 && min(total.acknowledged, total.groups, total.swept, total.tooOld) < 100 {
		t.Errorf("counts: %+v, want at least 100 of each", total)
	}
}

// TestCrashesAreReproducible checks that a seed determines the requests and their order.
func TestCrashesAreReproducible(t *testing.T) {
	for seed := range uint64(4) {
		a, b := fnv.New64(), fnv.New64()
		countsA, errA := runCrashes(t, seed, hooks{}, crashSteps, a)
		countsB, errB := runCrashes(t, seed, hooks{}, crashSteps, b)
		if err := errors.Join(errA, errB); err != nil {
			t.Error(err)
		}
		if a.Sum64() != b.Sum64() || countsA != countsB {
			t.Errorf("seed %d: the first run had %+v, the second %+v, or another order of requests", seed, countsA, countsB)
		}
	}
}

// TestCrashesDetectMissingProtection checks that the simulation fails if one of the protections is disabled.
func TestCrashesDetectMissingProtection(t *testing.T) {
	if race.Enabled {
		t.Skip("takes long with the race detector")
	}
	for name, c := range map[string]struct {
		hooks hooks
		seed  uint64 // the first one; the rare failures come soon after it
	}{
		"an existing record is not read back": {hooks{noReadBack: true}, 1},
		"waiting records are forgotten":       {hooks{forgetWaiting: true}, 1},
		"records of two groups apply twice":   {hooks{applyTwice: true}, 425},
		"writers commit old segments":         {hooks{segmentAge: -sweepAge}, 170},
	} {
		t.Run(name, func(t *testing.T) {
			crashes := 0
			for seed := c.seed; crashes < 10_000; seed++ {
				n, err := runCrashes(t, seed, c.hooks, crashSteps, io.Discard)
				crashes += n.crashes
				if err != nil {
					t.Logf("seed %d, after %d crashes: %.300v", seed, crashes, err)
					return
				}
			}
			t.Errorf("the missing protection was not detected in %d crashes", crashes)
		})
	}
}
