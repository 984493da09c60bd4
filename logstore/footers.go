package logstore

import "slices"

// What is known of segments, from their footers, grows with the store. Of the
// memory, 1/32 is for where their ranges are, and 1/32 for their hot runs.

// withinMemory returns segments that take no more than that: the finest get half
// as many ranges, as often as needed, which only makes reads of them longer. From
// when hot runs take too much, new segments get none. mu is held, if others have
// the store.
func (s *Store) withinMemory(list []*segment) []*segment {
	most := s.opts.Memory / 32
	for {
		var ranges, hot int64
		finest := uint8(0)
		for _, g := range list {
			ranges += 4 * int64(len(g.off)+len(g.raw))
			hot += g.hotMemory()
			finest = max(finest, g.bits)
		}
		s.manyHot.Store(hot > most)
		if ranges <= most || finest == 0 {
			return list
		}
		list = slices.Clone(list) // readers have the old one
		for i, g := range list {
			if g.bits == finest {
				list[i] = g.coarser()
			}
		}
	}
}

// coarser returns the segment with half as many ranges.
func (g *segment) coarser() *segment {
	c := *g
	c.bits--
	c.off = make([]uint32, 1<<c.bits+1)
	for i := range c.off {
		c.off[i] = g.off[2*i]
	}
	if g.raw != nil {
		c.raw = make([]uint32, 1<<c.bits)
		for i := range c.raw {
			c.raw[i] = g.raw[2*i] + g.raw[2*i+1]
		}
	}
	return &c
}
