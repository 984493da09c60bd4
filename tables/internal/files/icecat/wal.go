package icecat

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
)

// The format of SQLite's write-ahead log is described in https://www.sqlite.org/fileformat2.html#walformat.
const (
	pageSize      = 4096
	walHeaderSize = 32
	frameSize     = 24 + pageSize
	walMagic      = "\x37\x7f\x06\x82\x00\x2d\xe2\x18\x00\x00\x10\x00" // little-endian checksums, version 3007000, pageSize
)

// walUse says why a write-ahead log is read.
type walUse int

const (
	checkLog   walUse = iota // to find damage
	readPages                // also to get the pages
	salvageLog               // to get as many pages as possible, although the log is damaged
)

// wal is the content of a write-ahead log.
type wal struct {
	salts   uint64         // change when SQLite starts the log again, after a checkpoint of all frames; 0 if the log is empty
	pages   map[int][]byte // the pages in commits, by page number, with their newest content unless the log was only checked
	size    int            // number of pages in the database after the last commit; 0 if there is none
	isTorn  bool           // the last commit was not written completely, or is damaged, so it is left out
	isLossy bool           // the content of some pages is damaged or missing
}

// readWAL reads a write-ahead log. If SQLite would drop acknowledged commits, the error wraps ErrContent, unless the
// log is read for salvage.
//
// At the first damaged frame, SQLite drops the rest as the torn end of the last commit. But each commit is synced
// before the next one begins. So if frames of a later commit follow, the frame was damaged later. Each frame contains
// the running checksum of all frames up to it, so the next frame can be verified even if the content of this one has
// changed.
func readWAL(name string, use walUse) (w wal, err error) {
	salvage := use == salvageLog
	f, err := os.Open(name)
	if err != nil {
		return w, ignoreMissing(err)
	}
	defer f.Close() //nolint:errcheck // opened only for reading
	log, b := bufio.NewReaderSize(f, 16*frameSize), make([]byte, walHeaderSize)
	isComplete, err := readAll(log, b)
	if !isComplete || string(b) == string(make([]byte, walHeaderSize)) {
		return w, err // an empty log, or the header of a new one was not synced
	}
	isIntact := func() bool {
		return string(b[:len(walMagic)]) == walMagic && walSum{}.add(b[:24]) == sumAt(b[24:])
	}
	if !isIntact() && !(salvage && unflip(b, isIntact)) {
		return wal{isLossy: true}, fmt.Errorf("%w: the header is not intact", ErrContent)
	}
	w.salts, w.pages = binary.BigEndian.Uint64(b[16:]), map[int][]byte{}
	stored := sumAt(b[24:]) // checksum of the previous frame, as stored in it
	computed := stored      // checksum of the previous frame, as computed from its content
	// brokenFrame is the number of the first frame that does not continue the log, or 0. isEnded means that a commit
	// has ended at or after this frame.
	brokenFrame, isEnded := 0, false
	uncommitted := map[int][]byte{}
	frame := make([]byte, frameSize)
	for n := 1; ; n++ {
		if use != checkLog {
			frame = make([]byte, frameSize)
		}
		isComplete, err = readAll(log, frame)
		if !isComplete {
			return w, err
		}
		follows := func() bool {
			return stored.after(frame) == sumAt(frame[16:]) || computed.after(frame) == sumAt(frame[16:])
		}
		isCurrent, size := binary.BigEndian.Uint64(frame[8:]) == w.salts, int(binary.BigEndian.Uint32(frame[4:]))
		isCommit := size > 0
		ok := follows() || salvage && isCurrent && unflip(frame, follows)
		stored, computed = sumAt(frame[16:]), stored.after(frame)
		if ok && (brokenFrame == 0 && !isCurrent || brokenFrame > 0 && isCurrent && isEnded) && !salvage {
			return w, fmt.Errorf("%w: frame %d is not intact, but later commits follow", ErrContent, cmp.Or(brokenFrame, n))
		}
		if brokenFrame == 0 && ok || salvage && isCurrent {
			if ok {
				page := int(binary.BigEndian.Uint32(frame))
				uncommitted[page] = []byte{}
				if use != checkLog {
					uncommitted[page] = frame[24:]
				}
			}
			w.isLossy = w.isLossy || !ok
			if isCommit {
				maps.Copy(w.pages, uncommitted)
				clear(uncommitted)
				w.size = size
			}
			continue
		}
		w.isTorn = w.isTorn || isCurrent && (ok || brokenFrame == 0)
		isEnded = isEnded || isCurrent && isCommit
		brokenFrame = cmp.Or(brokenFrame, n)
	}
}

// readAll fills b and reports whether r had enough bytes.
func readAll(r io.Reader, b []byte) (bool, error) {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil
	}
	return err == nil, err
}

// unflip repairs b if flipping one bit makes it intact, and no other bit does. It reports whether b is then intact.
func unflip(b []byte, isIntact func() bool) bool {
	bitIndex := -1
	for i := range 8 * len(b) {
		b[i/8] ^= 1 << (i % 8)
		if isIntact() {
			if bitIndex >= 0 { // SQLite's checksum cannot tell some bits apart
				b[i/8] ^= 1 << (i % 8)
				return false
			}
			bitIndex = i
		}
		b[i/8] ^= 1 << (i % 8)
	}
	if bitIndex >= 0 {
		b[bitIndex/8] ^= 1 << (bitIndex % 8)
	}
	return bitIndex >= 0
}

// walSum is SQLite's checksum.
type walSum [2]uint32

func sumAt(b []byte) walSum {
	return walSum{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
}

// after returns the running checksum after a frame.
func (s walSum) after(frame []byte) walSum { return s.add(frame[:8]).add(frame[24:]) }

// add returns the checksum after b, whose length must be a multiple of 8.
func (s walSum) add(b []byte) walSum {
	for ; len(b) > 0; b = b[8:] {
		s[0] += binary.LittleEndian.Uint32(b) + s[1]
		s[1] += binary.LittleEndian.Uint32(b[4:]) + s[0]
	}
	return s
}
