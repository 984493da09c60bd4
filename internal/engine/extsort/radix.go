package extsort

import "bytes"

// sorter sorts entries, which refer to records in mem.
type sorter struct{ mem []byte }

const insertionLimit = 24 // maximum number of entries for insertion sort

// sort stably sorts entries by their keys. The first depth bytes of all keys must be equal. If
// depth is 0, the caller must have set each entry's prefix to the first eight bytes of its key.
// scratch must be at least as long as list.
func (s *sorter) sort(list, scratch []Entry, depth int) {
	if len(list) < 2 {
		return
	}
	if depth > 0 {
		if s.allEqual(list) {
			return
		}
		for s.loadPrefixes(list, depth) {
			depth += 8 // the next eight bytes of all keys are equal
		}
	}
	if len(list) <= insertionLimit {
		s.insertionSort(list, depth)
		return
	}
	SortByPrefix(list, scratch)
	for from := 0; from < len(list); {
		first := list[from]
		to := from + 1
		var differingBits uint64
		for to < len(list) && list[to].Prefix == first.Prefix {
			differingBits |= list[to].Ref ^ first.Ref
			to++
		}
		// Keys that end within the prefix and have the same length are equal.
		if to-from > 1 && (differingBits&maxRefLen != 0 || int(first.Ref&maxRefLen) > min(depth+8, maxRefLen-1)) {
			s.sortEqual(list[from:to], scratch, depth)
		}
		from = to
	}
}

// loadPrefixes sets each prefix to eight bytes of the key, from offset depth on. It reports whether
// all prefixes are equal and all keys continue after them.
func (s *sorter) loadPrefixes(list []Entry, depth int) bool {
	allSame := true
	for i := range list {
		rest := keyOf(s.mem, list[i])[depth:]
		list[i].Prefix = prefixOf(rest)
		allSame = allSame && len(rest) > 8 && list[i].Prefix == list[0].Prefix
	}
	return allSame
}

func (s *sorter) allEqual(list []Entry) bool {
	first := keyOf(s.mem, list[0])
	for i := len(list) - 1; i > 0; i-- {
		if !bytes.Equal(keyOf(s.mem, list[i]), first) {
			return false
		}
	}
	return true
}

// insertionSort sorts a few entries. loadPrefixes must have set the prefixes for depth.
func (s *sorter) insertionSort(list []Entry, depth int) {
	for i := 1; i < len(list); i++ {
		e := list[i]
		j := i
		for ; j > 0 && s.less(e, list[j-1], depth); j-- {
			list[j] = list[j-1]
		}
		list[j] = e
	}
}

func (s *sorter) less(a, b Entry, depth int) bool {
	if a.Prefix != b.Prefix {
		return a.Prefix < b.Prefix
	}
	// Both keys end within the equal prefixes and have the same length, so they are equal.
	if n := a.Ref & maxRefLen; n == b.Ref&maxRefLen && int(n) <= min(depth+8, maxRefLen-1) {
		return false
	}
	return bytes.Compare(keyOf(s.mem, a)[depth:], keyOf(s.mem, b)[depth:]) < 0
}

// sortEqual sorts entries with equal prefixes. Keys that end within the prefix come first, by
// length. The others are sorted by the bytes after the prefix.
func (s *sorter) sortEqual(list, scratch []Entry, depth int) {
	const maxClass = 9 // result of bytesLeft for keys that continue after the prefix
	var positions [maxClass + 1]int
	for i := range list {
		positions[s.bytesLeft(list[i], depth)]++
	}
	shortCount := len(list) - positions[maxClass]
	if shortCount > 0 {
		sum := 0
		for i, n := range positions {
			positions[i] = sum
			sum += n
		}
		tmp := scratch[:len(list)]
		copy(tmp, list)
		for _, e := range tmp {
			c := s.bytesLeft(e, depth)
			list[positions[c]] = e
			positions[c]++
		}
	}
	s.sort(list[shortCount:], scratch, depth+8)
}

// bytesLeft returns the number of bytes that a key has from the offset depth on, but at most 9.
func (s *sorter) bytesLeft(e Entry, depth int) int {
	n := int(e.Ref & maxRefLen)
	if n == maxRefLen {
		n = len(keyOf(s.mem, e))
	}
	return min(n-depth, 9)
}

// SortByPrefix stably sorts entries by their prefixes. From the last byte to the first, it makes a
// pass for each byte that is not the same in all prefixes. It overwrites scratch, which must be at
// least as long as list.
func SortByPrefix(list, scratch []Entry) {
	var counts [8][256]uint32
	common, union := ^uint64(0), uint64(0)
	for i := range list {
		common &= list[i].Prefix
		union |= list[i].Prefix
	}
	differingBits := common ^ union
	if differingBits == 0 {
		return
	}
	var shifts [8]uint
	passes := 0
	for shift := uint(0); shift < 64; shift += 8 {
		if differingBits>>shift&0xff != 0 {
			shifts[passes] = shift
			passes++
		}
	}
	for i := range list {
		p := list[i].Prefix
		for k := range passes {
			counts[k][byte(p>>shifts[k])]++
		}
	}
	from, to := list, scratch[:len(list)]
	for k := range passes {
		c := &counts[k]
		sum := uint32(0)
		for i, n := range c {
			c[i] = sum
			sum += n
		}
		shift := shifts[k]
		for _, e := range from {
			b := byte(e.Prefix >> shift)
			to[c[b]] = e
			c[b]++
		}
		from, to = to, from
	}
	if passes%2 == 1 {
		copy(list, from)
	}
}
