package remote

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
)

// retainedPops keep what a Pop has taken out of the store until the client says that it
// has it, so that an answer lost with its connection is given again. They live
// as long as the server, and those of a session as long as that is known.
type retainedPops struct {
	quotas *quotas
	lost   *lostPops

	mu       sync.Mutex // taken before the quotas'
	kept     int64      // bytes of results that no client has said it has
	sessions map[uint64]*popSession
}

type popSession struct {
	unsure  bool   // a result of it went that nobody had taken
	high    uint64 // the highest number seen
	bytes   int64  // of its results
	results map[uint64]*popResult
}

type popResult struct {
	of     *popSession
	tenant *tenant
	once   sync.Once     // whoever comes first does it
	done   chan struct{} // closed when the rest is there
	err    error
	pieces [][]byte // numbers and values in turn
	bytes  int64
	timer  *time.Timer
}

const (
	keepPop = 10 * time.Minute
	maxPops = 256 // kept for a session
)

func (p *retainedPops) init(l *quotas, lost *lostPops) {
	p.quotas, p.lost, p.sessions = l, lost, map[uint64]*popSession{}
}

// limit is of the results that are kept, in bytes.
func (p *retainedPops) limit() int64 { return p.quotas.limit[popBytes] }

// enter makes a session known, where a client goes on with it.
func (p *retainedPops) enter(session uint64) {
	if session == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.session(session)
}

// begin makes a session known that was issued this moment.
func (p *retainedPops) begin(session uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.session(session).unsure = false
}

// session returns a session. mu is held.
func (p *retainedPops) session(id uint64) *popSession {
	s := p.sessions[id]
	if s == nil {
		s = &popSession{unsure: p.lost.of(id), results: map[uint64]*popResult{}}
		p.sessions[id] = s
	}
	return s
}

// end forgets a session that is over, or that others needed the place of.
func (p *retainedPops) end(session uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(session)
}

// remove forgets a session. mu is held.
func (p *retainedPops) remove(id uint64) {
	if s := p.sessions[id]; s != nil {
		delete(p.sessions, id)
		if len(s.results) > 0 {
			p.lost.add(id)
		}
		for _, r := range s.results {
			p.drop(r)
		}
	}
}

// drop forgets a result. mu is held.
func (p *retainedPops) drop(r *popResult) {
	select {
	case <-r.done:
		r.timer.Stop()
		p.keep(r, -r.bytes)
		r.bytes = 0
	default: // under way: who pops notices
	}
}

// done forgets the result of a pop.
func (p *retainedPops) done(session, number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.sessions[session]; s != nil && s.results[number] != nil {
		p.drop(s.results[number])
		delete(s.results, number)
	}
}

// keep notes what a result takes. mu is held.
func (p *retainedPops) keep(r *popResult, bytes int64) {
	p.kept += bytes
	r.of.bytes += bytes
	p.quotas.add(r.tenant, popBytes, bytes)
}

// mustWait reports whether a session has to wait until results are taken. A peer may
// keep as much as it leaves for others. One that keeps nothing, or a session that
// keeps nothing, goes on beyond that: others cannot keep it out. mu is held.
func (p *retainedPops) mustWait(s *popSession, own *tenant) bool {
	p.quotas.mu.Lock()
	mine, kept := own.used[popBytes], p.quotas.used[popBytes] // of all spaces
	p.quotas.mu.Unlock()
	most := p.limit()
	switch {
	case mine == 0:
		most = 2 * p.limit()
	case s.bytes == 0:
		most = p.limit() + p.limit()/2
	default:
		most -= mine
	}
	return len(s.results) >= maxPops || kept > most
}

// empty reports whether there is no result, nor will be one of what is under way.
func (p *retainedPops) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		if len(s.results) > 0 {
			return false
		}
	}
	return true
}

func (p *retainedPops) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.sessions {
		p.remove(id)
	}
}

// claim notes a pop before it is done, in the order in which they come.
func (p *retainedPops) claim(own *tenant, session, number uint64, resent bool) (r *popResult, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sessions[session]
	if s == nil {
		if resent {
			return nil, fmt.Errorf("session %d: pop %d: the server has forgotten: %w", session, number, partd.ErrUnknownOutcome)
		}
		s = p.session(session)
	}
	if r := s.results[number]; r != nil {
		return r, nil
	}
	if number <= s.high || resent && s.unsure {
		return nil, fmt.Errorf("session %d: pop %d: its result is no longer kept: %w", session, number, partd.ErrUnknownOutcome)
	}
	if p.mustWait(s, own) {
		return nil, fmt.Errorf("%w: %d pops of this session were not collected, and %d bytes of all", ErrBusy, len(s.results), p.kept)
	}
	s.high = number
	r = &popResult{of: s, tenant: own, done: make(chan struct{})}
	s.results[number] = r
	return r, nil
}

// finish keeps a result, or forgets a pop that took nothing.
func (p *retainedPops) finish(session, number uint64, r *popResult, values [][]byte, err error) {
	r.err = err
	if err == nil {
		r.keep(values)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep(r, r.bytes)
	r.timer = time.AfterFunc(keepPop, func() {
		p.lost.add(session)
		p.done(session, number)
	})
	close(r.done)
	s := p.sessions[session]
	if s == nil || s.results[number] != r {
		p.drop(r)
	}
}

func (r *popResult) keep(values [][]byte) {
	le := binary.LittleEndian
	number := le.AppendUint32(nil, uint32(len(values)))
	for _, v := range values {
		number = le.AppendUint64(number, uint64(len(v)))
		r.pieces = append(r.pieces, number, v)
		number = nil
		r.bytes += int64(len(v)) + 8
	}
	if len(values) == 0 {
		r.pieces = append(r.pieces, number)
	}
}

// wait answers, once the result is there, with what it has from an offset on, up to a page.
func (r *popResult) wait(a *answer, offset uint64) error {
	if err := canceled.Wait(a.ctx, r.done); err != nil {
		return err
	}
	if r.err != nil {
		return r.err
	}
	for _, p := range r.pieces {
		if offset >= uint64(len(p)) {
			offset -= uint64(len(p))
			continue
		}
		p = p[offset:]
		offset = 0
		left := a.page - a.size()
		if left <= 0 {
			a.flags |= flagMore
			return nil
		}
		if len(p) > left {
			a.refer(p[:left])
			a.flags |= flagMore
			return nil
		}
		a.refer(p)
	}
	return nil
}

// pop claims a pop in the order in which they come.
func (c *conn) pop(r request, d *decoder) (fill, error) {
	s := c.space
	instance, keys, allowance := d.u64(), d.keys(), d.allowance
	switch {
	case d.end() != nil:
		return nil, nil
	case r.session == 0:
		return nil, fmt.Errorf("%w: a pop without a session", ErrBadRequest)
	case instance != c.server.instance:
		return nil, fmt.Errorf("pop %d: the server has been restarted since: %w", r.seq, partd.ErrUnknownOutcome)
	}
	s.sessions.use(c.used[r.session])
	result, err := s.pops.claim(c.tenant, r.session, r.seq, r.flags&flagResent != 0)
	if err != nil {
		return nil, err
	}
	return func(a *answer) error {
		result.once.Do(func() {
			values, err := s.popValues(c.server.base, allowance, keys)
			s.pops.finish(r.session, r.seq, result, values, err)
		})
		return result.wait(a, 0)
	}, nil
}

// popRead answers with a later page of a result.
func (c *conn) popRead(r request, d *decoder) (fill, error) {
	offset := d.u64()
	return func(a *answer) error {
		p := &c.space.pops
		p.mu.Lock()
		var result *popResult
		if s := p.sessions[r.session]; s != nil {
			result = s.results[r.seq]
		}
		p.mu.Unlock()
		if result == nil {
			return fmt.Errorf("pop %d: its result is no longer kept: %w", r.seq, partd.ErrUnknownOutcome)
		}
		return result.wait(a, offset)
	}, nil
}

func (c *conn) popDone(r request, _ *decoder) (fill, error) {
	return func(*answer) error { c.space.pops.done(r.session, r.seq); return nil }, nil
}

// popValues takes values out of the store. They have to fit the memory, so their
// sizes are found first, where the store can stream them; allowance has them while
// they are on their way.
func (s *space) popValues(ctx context.Context, allowance *allowance, keys []string) ([][]byte, error) {
	if _, ok := s.store.(partd.Opener); ok {
		left := s.pops.limit()
		for _, k := range keys {
			n, err := s.valueSize(ctx, k, left)
			if err != nil {
				return nil, err
			}
			if left -= n; left < 0 {
				return nil, fmt.Errorf("%w: the values of %d keys together have more than %d bytes, a quarter of the server's memory: pop fewer keys, or read them with Open and delete them",
					partd.ErrTooLarge, len(keys), s.pops.limit())
			}
		}
		if err := allowance.hold(allowance.held + free + s.pops.limit() - left); err != nil {
			return nil, err
		}
	}
	defer s.changes.Add(1)
	return partd.Pop(ctx, s.store, keys...)
}

// valueSize returns the length of a value, or one more than most.
func (s *space) valueSize(ctx context.Context, key string, most int64) (int64, error) {
	r, err := partd.Open(ctx, s.store, key)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r, most+1))
	return n, errors.Join(err, r.Close())
}
