package blosc

// decodeBloscLZ decompresses a BloscLZ stream, whose data must fill dst.
//
// The stream consists of literal bytes and of copies of earlier output. A control byte c
// below 32 precedes c + 1 literal bytes. A higher control byte begins a copy: its high
// three bits are the length minus 2. If they are 7, more bytes follow, which are added to
// the length, up to and including the first byte that is not 255. The low five bits and
// the next byte are the distance minus 1. If all of these bits are set, the distance minus
// 1 is 8,191 plus two more bytes, big-endian. In the first control byte of the stream, the
// high three bits are ignored.
func decodeBloscLZ(dst, src []byte) error {
	const (
		farHigh = 31 << 8
		farLow  = 255
		farBase = 8191
	)
	srcPos, dstPos := 0, 0
	readByte := func() (int, bool) {
		if srcPos == len(src) {
			return 0, false
		}
		srcPos++
		return int(src[srcPos-1]), true
	}
	isFirst := true
	for srcPos < len(src) {
		control, _ := readByte()
		if isFirst {
			control &= 31
			isFirst = false
		}
		if control < 32 {
			n := control + 1
			if n > len(src)-srcPos || n > len(dst)-dstPos {
				return corruptError("literals beyond the end of a stream")
			}
			copy(dst[dstPos:], src[srcPos:srcPos+n])
			srcPos, dstPos = srcPos+n, dstPos+n
			continue
		}
		length, distance := control>>5+2, control&31<<8
		for hasMore := control>>5 == 7; hasMore; {
			b, ok := readByte()
			if !ok {
				return corruptError("a copy is cut off")
			}
			length += b
			hasMore = b == 255
		}
		low, ok := readByte()
		if !ok {
			return corruptError("a copy is cut off")
		}
		if low == farLow && distance == farHigh {
			high, _ := readByte()
			low, ok = readByte()
			if !ok {
				return corruptError("a copy is cut off")
			}
			distance = farBase + high<<8
		}
		distance += low + 1
		if distance > dstPos || length > len(dst)-dstPos {
			return corruptError("a copy of %d bytes at distance %d, at byte %d of %d", length, distance, dstPos, len(dst))
		}
		if distance >= length {
			copy(dst[dstPos:dstPos+length], dst[dstPos-distance:])
		} else {
			for i := range length { // source and destination overlap
				dst[dstPos+i] = dst[dstPos-distance+i]
			}
		}
		dstPos += length
	}
	if dstPos != len(dst) {
		return corruptError("a stream decompresses to %d bytes instead of %d", dstPos, len(dst))
	}
	return nil
}
