// Package guesses slows down peers that show a server wrong credentials.
package guesses

import (
	"crypto/sha256"
	"sync"
	"time"
)

// Guesses slow down peers that show wrong credentials. The zero value is ready. A peer may be wrong so many
// times at once, and so many times a second from then on; who is right loses
// nothing. Tokens are far too long to be guessed at any rate: this keeps the log
// and the processor from those who try. Who shares their address gets in with a
// credential that was right before, and else when they pause.
type Guesses struct {
	mu     sync.Mutex
	peers  map[string]*guesser
	proven map[[sha256.Size]byte]struct{} // hashes of credentials that were right
}

type guesser struct {
	left float64 // wrong ones that may still come
	at   time.Time
}

// How many wrong credentials a peer may show at once, and how many a second.
const (
	Burst = 20
	Rate  = 5
)

const (
	maxGuessers = 1024
	maxProven   = 4096
)

func (g *guesser) refill(now time.Time) {
	g.left = min(Burst, g.left+Rate*now.Sub(g.at).Seconds())
	g.at = now
}

// Right notes a credential that was found good.
func (g *Guesses) Right(credential string) {
	if credential == "" {
		return // a certificate was
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.proven == nil {
		g.proven = map[[sha256.Size]byte]struct{}{}
	}
	for hash := range g.proven { // makes room for it
		if len(g.proven) < maxProven {
			break
		}
		delete(g.proven, hash)
	}
	g.proven[sha256.Sum256([]byte(credential))] = struct{}{}
}

// MayTry reports whether a credential of a peer is to be looked at.
func (g *Guesses) MayTry(peer, credential string) bool {
	hash := sha256.Sum256([]byte(credential))
	g.mu.Lock()
	defer g.mu.Unlock()
	_, proven := g.proven[hash]
	p := g.peers[peer]
	if p == nil || proven {
		return true
	}
	p.refill(time.Now())
	return p.left >= 1
}

// Wrong notes a wrong credential. Where there are too many peers, the one that was
// wrong least is forgotten.
func (g *Guesses) Wrong(peer string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	p := g.peers[peer]
	if p == nil {
		if len(g.peers) >= maxGuessers {
			g.forgetOne(now)
		}
		if g.peers == nil {
			g.peers = map[string]*guesser{}
		}
		p = &guesser{Burst, now}
		g.peers[peer] = p
	}
	p.refill(now)
	p.left = max(p.left-1, 0)
}

func (g *Guesses) forgetOne(now time.Time) {
	least, most := "", -1.0
	for name, p := range g.peers {
		if p.refill(now); p.left > most {
			least, most = name, p.left
		}
	}
	delete(g.peers, least)
}
