package blosc

// decodeBloscLZ decompresses a stream of BloscLZ into dst, and fills it.
//
// The stream consists of literals and of copies of earlier output. Only the low five
// bits of the first byte count. A control byte c below 32 precedes c + 1 literals. A
// higher control byte begins a copy: its high three bits are the length minus 2. If they
// are 7, more bytes follow, which are added to the length, up to the first byte that is
// not 255. The low five bits and the next byte are the distance minus 1. If all of these
// bits are set, two more bytes, big-endian, are added to 8,191.
func decodeBloscLZ(dst, src []byte) error {
	const (
		farHigh = 31 << 8
		farLow  = 255
		farBase = 8191
	)
	in, out := 0, 0
	next := func() (int, bool) {
		if in == len(src) {
			return 0, false
		}
		in++
		return int(src[in-1]), true
	}
	first := true
	for in < len(src) {
		control, _ := next()
		if first {
			control &= 31
			first = false
		}
		if control < 32 {
			n := control + 1
			if n > len(src)-in || n > len(dst)-out {
				return corruptError("literals beyond the end of a stream")
			}
			copy(dst[out:], src[in:in+n])
			in, out = in+n, out+n
			continue
		}
		length, distance := control>>5+2, control&31<<8
		for more := control>>5 == 7; more; {
			b, ok := next()
			if !ok {
				return corruptError("a copy is cut off")
			}
			length += b
			more = b == 255
		}
		low, ok := next()
		if !ok {
			return corruptError("a copy is cut off")
		}
		if low == farLow && distance == farHigh {
			high, _ := next()
			if low, ok = next(); !ok {
				return corruptError("a copy is cut off")
			}
			distance = farBase + high<<8
		}
		distance += low + 1
		if distance > out || length > len(dst)-out {
			return corruptError("a copy of %d bytes from %d bytes before %d of %d", length, distance, out, len(dst))
		}
		if distance >= length {
			copy(dst[out:out+length], dst[out-distance:])
		} else {
			for i := range length { // source and destination overlap
				dst[out+i] = dst[out-distance+i]
			}
		}
		out += length
	}
	if out != len(dst) {
		return corruptError("a stream of %d bytes instead of %d", out, len(dst))
	}
	return nil
}
