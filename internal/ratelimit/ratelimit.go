// Package ratelimit slows down peers that show a server wrong credentials.
package ratelimit

import (
	"crypto/sha256"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Logins slows down peers that show wrong credentials, each by a token bucket. The zero
// value is ready. Correct credentials cost nothing. Tokens are far too long to be guessed
// at any rate: this protects the log and the processor. Others at the same address still
// get in with a credential that was valid before, and with another one after a pause.
type Logins struct {
	mu     sync.Mutex
	peers  map[string]*rate.Limiter
	proven map[[sha256.Size]byte]struct{} // hashes of credentials that were right
}

// How many wrong credentials a peer may show at once, and how many a second.
const (
	Burst = 20
	Rate  = 5
)

const (
	maxPeers  = 1024
	maxProven = 4096
)

// Right notes a credential that was found good.
func (l *Logins) Right(credential string) {
	if credential == "" {
		return // a certificate was
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.proven == nil {
		l.proven = map[[sha256.Size]byte]struct{}{}
	}
	for hash := range l.proven { // makes room for it
		if len(l.proven) < maxProven {
			break
		}
		delete(l.proven, hash)
	}
	l.proven[sha256.Sum256([]byte(credential))] = struct{}{}
}

// MayTry reports whether to check a credential of a peer.
func (l *Logins) MayTry(peer, credential string) bool {
	hash := sha256.Sum256([]byte(credential))
	l.mu.Lock()
	defer l.mu.Unlock()
	_, proven := l.proven[hash]
	p := l.peers[peer]
	return p == nil || proven || p.Tokens() >= 1
}

// Wrong notes a wrong credential. Of too many peers it forgets the one that was wrong
// least.
func (l *Logins) Wrong(peer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[peer]
	if p == nil {
		if len(l.peers) >= maxPeers {
			l.forgetOne(time.Now())
		}
		if l.peers == nil {
			l.peers = map[string]*rate.Limiter{}
		}
		p = rate.NewLimiter(Rate, Burst)
		l.peers[peer] = p
	}
	p.Allow()
}

func (l *Logins) forgetOne(now time.Time) {
	least, most := "", -1.0
	for name, p := range l.peers {
		if left := p.TokensAt(now); left > most {
			least, most = name, left
		}
	}
	delete(l.peers, least)
}
