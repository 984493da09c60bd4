package remote

import "sync"

// lostPops has the sessions that lost the result of a pop before the client confirmed it.
// If such a pop is resent, it may already have run. Any other unknown pop never arrived,
// because results and their namespaces stay until they are confirmed.
type lostPops struct {
	mu       sync.Mutex // locked after that of retainedPops
	sessions map[uint64]struct{}
	tooMany  bool // too many to remember each
}

func (l *lostPops) add(session uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sessions == nil {
		l.sessions = map[uint64]struct{}{}
	}
	if l.sessions[session] = struct{}{}; len(l.sessions) > maxSessions {
		l.sessions, l.tooMany = nil, true
	}
}

func (l *lostPops) contains(session uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, lost := l.sessions[session]
	return lost || l.tooMany
}
