package flightd

import (
	"slices"
	"sync"
)

// Places limits how many things are under way, in total and for each host. To make room, a
// new one ends the oldest that allows it: of its own host if that has used up its share,
// and otherwise of the host with the most.
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

// NewPlaces returns limit places. One host may take at most share of them.
func NewPlaces(limit, share int) *Places { return &Places{limit: limit, share: share} }

// Take takes a place for a caller's address until leave is called; ok is false if there is
// none. If end is not nil, Places may call it to make room for others; it must not block.
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
