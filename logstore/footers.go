package logstore

import "slices"

// What is known of segments, from their footers, grows with the store. Of the
// memory, 1/32 is for where their ranges are, and 1/32 for their hot runs.

// withinMemory returns segments that take no more than that: the finest get half
// as many ranges, as often as needed, which only makes reads of them longer. From
// when hot runs take too much, new segments get none. mu is held, if others have
// the store.
func (s *Store) withinMemory(list []*storedSegment) []*storedSegment {
	most := s.opts.Memory / 32
	for {
		var ranges, hot int64
		finest := uint8(0)
		for _, g := range list {
			ranges += g.OffsetMemory()
			hot += g.HotMemory()
			finest = max(finest, g.Bits)
		}
		s.manyHot.Store(hot > most)
		if ranges <= most || finest == 0 {
			return list
		}
		list = slices.Clone(list) // readers have the old one
		for i, g := range list {
			if g.Bits == finest {
				list[i] = &storedSegment{Layout: g.Coarser(), file: g.file, ledger: g.ledger}
			}
		}
	}
}
