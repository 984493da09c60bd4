// Package ratelimit slows down peers that present wrong credentials to a server.
package ratelimit

import (
	"crypto/sha256"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Logins slows down peers that present wrong credentials, with a token bucket for each peer. The
// zero value is ready to use. Credentials are too long to be guessed however fast a peer tries, so
// the limit serves only to save CPU time and to keep the log short. Other clients at the address of
// a slowed-down peer can still log in with a credential that was accepted before, and with a new
// credential after a pause.
type Logins struct {
	mu       sync.Mutex
	peers    map[string]*rate.Limiter
	accepted map[[sha256.Size]byte]struct{} // hashes of accepted credentials
}

// Burst is the number of wrong credentials that a peer may present at once, and Rate is the number
// per second after that.
const (
	Burst = 20
	Rate  = 5
)

const (
	maxPeers    = 1024
	maxAccepted = 4096
)

// RecordSuccess records a credential that was accepted.
func (l *Logins) RecordSuccess(credential string) {
	if credential == "" {
		return // the peer presented a certificate instead
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.accepted == nil {
		l.accepted = map[[sha256.Size]byte]struct{}{}
	}
	for hash := range l.accepted { // make room
		if len(l.accepted) < maxAccepted {
			break
		}
		delete(l.accepted, hash)
	}
	l.accepted[sha256.Sum256([]byte(credential))] = struct{}{}
}

// MayTry reports whether a peer's credential should be checked now.
func (l *Logins) MayTry(peer, credential string) bool {
	hash := sha256.Sum256([]byte(credential))
	l.mu.Lock()
	defer l.mu.Unlock()
	_, accepted := l.accepted[hash]
	p := l.peers[peer]
	return p == nil || accepted || p.Tokens() >= 1
}

// RecordFailure records that a peer presented a wrong credential. If the table of peers is full,
// RecordFailure forgets the peer with the fewest recent failures.
func (l *Logins) RecordFailure(peer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[peer]
	if p == nil {
		if len(l.peers) >= maxPeers {
			l.forgetPeer(time.Now())
		}
		if l.peers == nil {
			l.peers = map[string]*rate.Limiter{}
		}
		p = rate.NewLimiter(Rate, Burst)
		l.peers[peer] = p
	}
	p.Allow()
}

func (l *Logins) forgetPeer(now time.Time) {
	peer, maxTokens := "", -1.0
	for name, p := range l.peers {
		if n := p.TokensAt(now); n > maxTokens {
			peer, maxTokens = name, n
		}
	}
	delete(l.peers, peer)
}
