package remote

import "sync"

// lostPops are the sessions of which a pop's result went that its client had not said
// it has: such a pop, sent again, may have been done. Any other that the server does not
// know never arrived, as a result stays until then, and with it its namespace.
type lostPops struct {
	mu       sync.Mutex // taken after that of retainedPops
	sessions map[uint64]struct{}
	tooMany  bool // to tell them apart
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

func (l *lostPops) of(session uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, lost := l.sessions[session]
	return lost || l.tooMany
}
