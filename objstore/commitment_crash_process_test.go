package objstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing/iotest"

	"github.com/go-partd/partd"
)

// process is a writer or the sweeper, which starts again after it died.
type process struct {
	run      *crashRun
	index    int
	rnd      *rand.Rand
	bucket   *processBucket // the bucket that the process uses until it dies or closes its store
	pending  []*request
	buffer   []simulatedOp    // operations that no record contains yet
	separate []simulatedOp    // an operation that gets its own record
	own      *simulatedRecord // the record of the operation in separate, or nil
	records  []*simulatedRecord
	cancel   context.CancelFunc // cancels the current operation; nil if it must not be canceled
	isDone   bool
}

// request is a request that waits for its answer.
type request struct {
	kind, name string
	data       []byte
	answer     chan error
	wrong      int // if not 0, the answer is half an object, or a stale listing with fewer names, each twice
}

// processBucket is the bucket as a process sees it during one life, from its start to its death.
type processBucket struct {
	*Memory
	process *process
	isDead  bool
	kill    context.CancelFunc
	wrong   map[string]bool // objects and prefixes that got a wrong answer
}

// wait waits for the answer to a request, and returns how it is wrong.
func (b *processBucket) wait(ctx context.Context, kind, name string, data []byte) (wrong int, err error) {
	p := b.process
	r := &request{kind, name, data, make(chan error, 1), 0}
	p.run.mu.Lock()
	if b.isDead {
		p.run.mu.Unlock()
		return 0, errKilled
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
		p.run.mu.Lock()
		defer p.run.mu.Unlock()
		if wrong = r.wrong; b.wrong[name] { // readers repeat a request only once if they see damage
			wrong = 0
		}
		b.wrong[name] = b.wrong[name] || wrong > 0
		return wrong, err
	case <-ctx.Done():
		p.run.waitAwake()
		p.run.mu.Lock()
		defer p.run.mu.Unlock()
		p.pending = slices.DeleteFunc(p.pending, func(o *request) bool { return o == r })
		return 0, ctx.Err()
	}
}

func (b *processBucket) Create(ctx context.Context, name string, data []byte) error {
	_, err := b.wait(ctx, "create", name, bytes.Clone(data))
	return err
}

func (b *processBucket) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	wrong, err := b.wait(ctx, "read", name, fmt.Append(nil, offset))
	if err != nil {
		return nil, err
	}
	r, err := b.Memory.ReadRange(ctx, name, offset, length)
	if err != nil || wrong == 0 {
		return r, err
	}
	data, err := io.ReadAll(r)
	if wrong%2 == 0 {
		err = io.ErrUnexpectedEOF
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(cmp.Or(err, io.EOF)))), nil
}

func (b *processBucket) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		wrong, err := b.wait(ctx, "list", prefix, []byte(after))
		if err != nil {
			yield(Object{}, err)
			return
		}
		n := 0
		for o, err := range b.Memory.List(ctx, prefix, after) {
			if n++; n == wrong || !yield(o, err) || wrong > 0 && !yield(o, err) {
				return
			}
		}
	}
}

func (b *processBucket) Delete(ctx context.Context, name string) error {
	_, err := b.wait(ctx, "delete", name, nil)
	return err
}

func (r *crashRun) signal() {
	select {
	case r.arrived <- struct{}{}:
	default:
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

// live runs the process, and starts it again each time it has died or closed its store.
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
		p.bucket = &processBucket{Memory: p.run.bucket, process: p, kill: kill, wrong: map[string]bool{}}
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
		if err != nil && !errors.Is(err, errKilled) && !p.isLateError(err) {
			p.run.fail(fmt.Errorf("process %d, life %d: %w", p.index, life, err))
		}
	}
}

// isLateError reports whether err can occur because hours have passed during a request, because an operation was
// canceled, or because an answer was lost or wrong.
func (p *process) isLateError(err error) bool {
	return errors.As(err, new(*partd.CorruptError)) && len(p.bucket.wrong) > 0 || errors.Is(err, partd.ErrUnknownOutcome) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, errTooOld) || errors.Is(err, errServer) || errors.Is(err, errFalseRefusal)
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
		if err != nil && (ctx.Err() != nil || !p.isLateError(err) || errors.Is(err, errTooOld)) {
			return err
		}
	}
	return nil
}

// setCancel sets the function that cancels the current operation.
func (p *process) setCancel(cancel context.CancelFunc) {
	p.run.mu.Lock()
	defer p.run.mu.Unlock()
	p.cancel = cancel
}

// operate runs one operation.
func (p *process) operate(life context.Context, s *Store, i int) error {
	ctx, cancel := context.WithCancel(life)
	defer cancel()
	p.setCancel(cancel)
	defer p.setCancel(nil)
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
	n := p.rnd.IntN(8)
	if p.index == sweeper {
		n = 1 + n/2 // no SetOnce or Drop, because an error of Sweep does not tell whether it ended their flush
	}
	switch n {
	case 0:
		p.add(&p.separate, simulatedDrop, "", "")
		return p.check(s.Drop(ctx))
	case 1, 2:
		p.setCancel(nil) // the simulation could not tell whether the entry is buffered
		p.add(&p.buffer, simulatedDelete, key, "")
		return p.check(s.Delete(life, key))
	case 3, 4:
		p.setCancel(nil)
		p.add(&p.buffer, simulatedSet, key, value)
		return p.check(s.Set(life, key, []byte(value)))
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

// check checks an operation that returned err. If err is nil, the log must contain the operation. If the outcome of
// an error is known, an operation with its own record must have no effect, now or later.
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
	if own != nil && own.isApplied && p.run.err == nil && !errors.Is(err, partd.ErrUnknownOutcome) && !errors.Is(err, errKilled) {
		p.run.err = fmt.Errorf("process %d: its record is in the log, but the outcome of %w is known", p.index, err)
	}
	p.noteRefused(err)
	return err
}

// noteRefused notes that a SetOnce or Drop that is not in the log has no effect, now or later, if the outcome of err is
// known: err ended the flush that would have committed the operation. p.run.mu must be held.
func (p *process) noteRefused(err error) {
	if errors.Is(err, partd.ErrUnknownOutcome) || errors.Is(err, errKilled) {
		return
	}
	p.records = slices.DeleteFunc(p.records, func(s *simulatedRecord) bool {
		s.isRefused = s.op != opEntries && !s.isApplied
		return s.isRefused
	})
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
		p.noteRefused(err)
		return err
	}
	for _, state := range p.run.states[first:] {
		if state[key] == string(v[0]) {
			return nil
		}
	}
	return fmt.Errorf("Get(%s) = %q, want a value of the states %v", key, v[0], p.run.states[first:])
}
