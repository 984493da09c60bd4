package remote

import "sync"

// lostPops remembers the sessions for which the server dropped a pop's result before the client
// confirmed that result. If such a session resends a pop whose result the server does not have, the
// pop may already have run. In any other session, such a pop has never arrived before.
type lostPops struct {
	mu       sync.Mutex // locked after the mu of retainedPops
	sessions map[uint64]struct{}
	tooMany  bool // there are too many sessions to remember them individually
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
