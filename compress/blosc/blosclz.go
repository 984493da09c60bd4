package blosc

// decodeBloscLZ decompresses a stream of BloscLZ into dst, which it fills.
//
// The stream is runs of literals and copies of what came before. Of the first
// byte only the low five bits count. A control byte below 32 is followed by that
// many literals and one; another is a copy, whose high three bits are its length
// less 2, where 7 says that bytes follow to be added, up to one that is not 255.
// Its low five bits, and a byte, are the distance less 1; with all bits of these
// set, two bytes, big-endian, follow to be added to 8,191.
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
				return corrupt("literals beyond the end of a stream")
			}
			copy(dst[out:], src[in:in+n])
			in, out = in+n, out+n
			continue
		}
		length, distance := control>>5+2, control&31<<8
		for more := control>>5 == 7; more; {
			b, ok := next()
			if !ok {
				return corrupt("a copy is cut off")
			}
			length += b
			more = b == 255
		}
		low, ok := next()
		if !ok {
			return corrupt("a copy is cut off")
		}
		if low == farLow && distance == farHigh {
			high, _ := next()
			if low, ok = next(); !ok {
				return corrupt("a copy is cut off")
			}
			distance = farBase + high<<8
		}
		distance += low + 1
		if distance > out || length > len(dst)-out {
			return corrupt("a copy of %d bytes from %d bytes before %d of %d", length, distance, out, len(dst))
		}
		if distance >= length {
			copy(dst[out:out+length], dst[out-distance:])
		} else {
			for i := range length { // it repeats what it copies
				dst[out+i] = dst[out-distance+i]
			}
		}
		out += length
	}
	if out != len(dst) {
		return corrupt("a stream of %d bytes instead of %d", out, len(dst))
	}
	return nil
}
