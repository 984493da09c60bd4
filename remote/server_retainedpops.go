package remote

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
)

// retainedPops keeps the results of Pop until the client confirms them, so that the server can
// resend an answer that was lost with its connection. Results are forgotten when their session or the
// server ends.
type retainedPops struct {
	quotas *quotas
	lost   *lostPops

	mu        sync.Mutex // locked before the quotas' mu
	keptBytes int64      // bytes of unconfirmed results
	sessions  map[uint64]*popSession
}

type popSession struct {
	lostResult bool   // an unconfirmed result of the session was dropped
	highest    uint64 // highest number of a pop so far
	bytes      int64  // size of the results
	results    map[uint64]*popResult
}

type popResult struct {
	session *popSession
	tenant  *tenant
	once    sync.Once     // runs the pop
	done    chan struct{} // closed when the fields below are set
	err     error
	pieces  [][]byte // the encoded values
	bytes   int64
	timer   *time.Timer
}

const (
	keepPop = 10 * time.Minute // how long an unconfirmed result is kept
	maxPops = 256              // maximum number of unconfirmed pops of one session
)

func (p *retainedPops) init(l *quotas, lost *lostPops) {
	p.quotas, p.lost, p.sessions = l, lost, map[uint64]*popSession{}
}

// limit returns the maximum total size of retained results, in bytes.
func (p *retainedPops) limit() int64 { return p.quotas.limit[popBytes] }

// register adds an existing session that a client continues on a new connection.
func (p *retainedPops) register(session uint64) {
	if session == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.session(session)
}

// begin registers a session that was just issued.
func (p *retainedPops) begin(session uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.session(session).lostResult = false
}

// session returns a session. It adds the session if necessary. mu must be held.
func (p *retainedPops) session(id uint64) *popSession {
	s := p.sessions[id]
	if s == nil {
		s = &popSession{lostResult: p.lost.contains(id), results: map[uint64]*popResult{}}
		p.sessions[id] = s
	}
	return s
}

func (p *retainedPops) end(session uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(session)
}

// remove forgets a session. mu must be held.
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

// drop forgets a result. mu must be held.
func (p *retainedPops) drop(r *popResult) {
	select {
	case <-r.done:
		r.timer.Stop()
		p.retain(r, -r.bytes)
		r.bytes = 0
	default: // the pop is still running: finish will drop the result
	}
}

// find returns the result of a pop, which may still be running, or nil.
func (p *retainedPops) find(session, number uint64) *popResult {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.sessions[session]; s != nil {
		return s.results[number]
	}
	return nil
}

// acknowledge forgets the result of a pop that the client has confirmed.
func (p *retainedPops) acknowledge(session, number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.sessions[session]; s != nil && s.results[number] != nil {
		p.drop(s.results[number])
		delete(s.results, number)
	}
}

// retain adds bytes, which may be negative, to the counts of retained bytes. mu must be held.
func (p *retainedPops) retain(r *popResult, bytes int64) {
	p.keptBytes += bytes
	r.session.bytes += bytes
	p.quotas.add(r.tenant, popBytes, bytes)
}

// empty reports whether no result is retained and no pop is running.
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

// claim records a pop before it runs and returns its result, which finish will complete. claim must
// be called in the order in which pops arrive. If resent is true, the pop may have arrived before.
func (p *retainedPops) claim(owner *tenant, session, number uint64, resent bool) (r *popResult, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sessions[session]
	if s == nil {
		if resent {
			return nil, fmt.Errorf("session %d: pop %d: the server has forgotten the session: %w", session, number, partd.ErrUnknownOutcome)
		}
		s = p.session(session)
	}
	if r := s.results[number]; r != nil {
		return r, nil
	}
	if number <= s.highest || resent && s.lostResult {
		return nil, fmt.Errorf("session %d: pop %d: its result is no longer kept: %w", session, number, partd.ErrUnknownOutcome)
	}
	if len(s.results) >= maxPops || p.quotas.popsMustWait(owner, s.bytes) {
		return nil, fmt.Errorf("%w: the client has not confirmed %d pops of this session, and the server retains %d bytes of popped values", ErrBusy, len(s.results), p.keptBytes)
	}
	s.highest = number
	r = &popResult{session: s, tenant: owner, done: make(chan struct{})}
	s.results[number] = r
	return r, nil
}

// finish stores the outcome of a pop. If the session has ended, it drops the result.
func (p *retainedPops) finish(session, number uint64, r *popResult, values [][]byte, err error) {
	r.err = err
	if err == nil {
		r.encode(values)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retain(r, r.bytes)
	r.timer = time.AfterFunc(keepPop, func() {
		p.lost.add(session)
		p.acknowledge(session, number)
	})
	close(r.done)
	s := p.sessions[session]
	if s == nil || s.results[number] != r {
		p.drop(r)
	}
}

func (r *popResult) encode(values [][]byte) {
	size := headerSpace + 4 // the exact size, because the buffer's spare capacity would not be charged
	for _, v := range values {
		size += 8
		if len(v) < minRefLen {
			size += len(v)
		}
	}
	b := builder{buf: make([]byte, headerSpace, size)}
	b.u32(uint32(len(values)))
	for _, v := range values {
		b.u64(uint64(len(v)))
		b.appendData(v)
		r.bytes += int64(len(v)) + 8
	}
	r.pieces = b.body()
}

// wait waits for the result and answers with the page that begins at offset.
func (r *popResult) wait(a *answerBuilder, offset uint64) error {
	if err := canceled.Wait(a.ctx, r.done); err != nil {
		return err
	}
	if r.err != nil {
		return r.err
	}
	pieces := slices.Clone(r.pieces)
	cutPieces(&pieces, int(min(offset, math.MaxInt)))
	for _, p := range cutPieces(&pieces, a.pageSize-a.size()) {
		a.appendData(p)
	}
	if len(pieces) > 0 {
		a.flags |= flagMore
	}
	return nil
}

// lostPops remembers the sessions for which the server dropped an unconfirmed result. If such a
// session resends a pop whose result the server does not have, the pop may already have run. In any
// other session, such a pop has never arrived before.
type lostPops struct {
	mu       sync.Mutex // locked after retainedPops.mu
	sessions map[uint64]struct{}
	tooMany  bool // there are too many sessions to remember each of them
}

func (l *lostPops) add(session uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sessions == nil {
		l.sessions = map[uint64]struct{}{}
	}
	l.sessions[session] = struct{}{}
	if len(l.sessions) > maxSessions {
		l.sessions, l.tooMany = nil, true
	}
}

func (l *lostPops) contains(session uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, lost := l.sessions[session]
	return lost || l.tooMany
}
