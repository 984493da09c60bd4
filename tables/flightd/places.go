package flightd

import (
	"slices"
	"sync"
)

// Places bound what is under way, in all and for each host.
// Where there is none for one more, that which can be ended makes room: the oldest of
// its own host where that has its share, else of the host with the most.
type Places struct {
	limit, share int

	mu    sync.Mutex
	taken []*place // oldest first
}

type place struct {
	host string
	end  func() // nil: it is not ended for others
}

// leastPlaces a host has, however many others have that are not ended.
const leastPlaces = 8

// NewPlaces returns limit places, of which one host has share at most.
func NewPlaces(limit, share int) *Places { return &Places{limit: limit, share: share} }

// Take takes a place for who calls from an address, until leave is called; it is
// false where there is none. With end, which must not wait, it may be ended for others.
func (p *Places) Take(address string, end func()) (leave func(), ok bool) {
	t := &place{hostOfAddress(address), end}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.makeRoom(t.host) {
		return nil, false
	}
	p.taken = append(p.taken, t)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.remove(t)
	}, true
}

func (p *Places) remove(t *place) {
	p.taken = slices.DeleteFunc(p.taken, func(o *place) bool { return o == t })
}

func (p *Places) makeRoom(host string) bool {
	own, ends := 0, map[string]int{}
	for _, t := range p.taken {
		if t.host == host {
			own++
		}
		if t.end != nil {
			ends[t.host]++
		}
	}
	most := host
	if own < p.share {
		if len(p.taken) < p.limit {
			return true
		}
		for h, n := range ends {
			if n > ends[most] {
				most = h
			}
		}
	}
	i := slices.IndexFunc(p.taken, func(t *place) bool { return t.host == most && t.end != nil })
	if i < 0 {
		return own < min(leastPlaces, p.share)
	}
	t := p.taken[i]
	p.remove(t)
	t.end()
	return true
}
