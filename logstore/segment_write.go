package logstore

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math/bits"
	"slices"
)

// segmentWriter writes a segment's blocks to the end of a file.
type segmentWriter struct {
	file  *dataFile
	seed  uint64
	comp  *compressor
	off   int64  // where in the file out goes
	out   []byte // blocks not yet written
	block int    // where in out the current block begins, -1 if none
	raw   []byte // the current block, if it is to be compressed
	total int    // bytes before compression since this was last set to 0
}

const writeLen = 1 << 20 // bytes per write call

func (w *segmentWriter) position() int64 { return w.off + int64(len(w.out)) }

// write adds bytes to the current run.
func (w *segmentWriter) write(p []byte) error {
	w.total += len(p)
	for len(p) > 0 {
		if w.block < 0 {
			if len(w.out) > writeLen {
				if err := w.flush(); err != nil {
					return err
				}
			}
			w.block = len(w.out)
			w.out = append(w.out, make([]byte, blockHeaderLen)...)
		}
		var n int
		if w.comp.codec == None {
			n = min(len(p), blockLen-(len(w.out)-w.block-blockHeaderLen))
			w.out = append(w.out, p[:n]...)
			if len(w.out)-w.block-blockHeaderLen == blockLen {
				w.endBlock()
			}
		} else {
			n = min(len(p), blockLen-len(w.raw))
			w.raw = append(w.raw, p[:n]...)
			if len(w.raw) == blockLen {
				w.endBlock()
			}
		}
		p = p[n:]
	}
	return nil
}

// endBlock completes the current block:
//
//	CRC (4) · codec << 24 | stored length (4) · length (4) · stored bytes
//
// The CRC covers what follows it, and where the block is.
func (w *segmentWriter) endBlock() {
	if w.block < 0 {
		return
	}
	rawLen, codec := len(w.out)-w.block-blockHeaderLen, codecNone
	if w.comp.codec != None {
		var stored []byte
		rawLen = len(w.raw)
		stored, codec = w.comp.compress(w.raw)
		w.out = append(w.out, stored...)
		w.raw = w.raw[:0]
	}
	b := w.out[w.block:]
	le := binary.LittleEndian
	le.PutUint32(b[4:], codec<<24|uint32(len(b)-blockHeaderLen))
	le.PutUint32(b[8:], uint32(rawLen))
	le.PutUint32(b, crc32.Update(salt(w.seed, w.file.number, w.off+int64(w.block)), castagnoli, b[4:]))
	w.block = -1
}

// flush writes out all complete blocks.
func (w *segmentWriter) flush() error {
	if _, err := w.file.f.WriteAt(w.out, w.off); err != nil {
		return err
	}
	w.off += int64(len(w.out))
	w.out = w.out[:0]
	return nil
}

// writeSegment writes a table that no longer changes to the end of the segment
// file. The manifest does not know of it yet.
func (s *Store) writeSegment(t *table) (*segment, error) {
	f, err := s.fileForSegment()
	if err != nil {
		return nil, err
	}
	g, err := s.appendSegment(f, t)
	if err != nil {
		s.cutBack(f)
	}
	return g, err
}

// fileForSegment returns the file that the next segment goes to.
func (s *Store) fileForSegment() (*dataFile, error) {
	f := s.segmentFile
	// Asked first: the file that a merge reads from, it may shorten meanwhile.
	if f != nil && !s.rotate.Load() && f.end < s.fileSize() {
		return f, nil
	}
	// A bulk that failed may have left an empty one behind it.
	files := s.files.files()
	at := slices.Index(files, f)
	after := files[at+1:]
	next := slices.IndexFunc(after, func(g *dataFile) bool { return g.kind == segmentKind })
	if at >= 0 && next >= 0 && after[next].end == dataHeaderLen {
		f = after[next]
	} else {
		var err error
		if f, err = s.addDataFile(segmentKind); err != nil {
			return nil, err
		}
	}
	s.segmentFile = f
	s.rotate.Store(false)
	return f, nil
}

func (s *Store) appendSegment(f *dataFile, t *table) (*segment, error) {
	// A table that is not full gives fewer ranges, of 4 KiB and more.
	segBits := min(t.bits, uint8(max(bits.Len64(uint64(t.size)>>12), 1)-1))
	g := &segment{file: f, start: f.end, bits: segBits, ledger: t.ledger}
	w := &segmentWriter{file: f, seed: s.seed, comp: s.compressor, off: f.end, out: s.sealBuf[:0], raw: s.sealRaw[:0], block: -1}
	defer func() { s.sealBuf, s.sealRaw = w.out[:0], w.raw[:0] }()

	perRange := 1 << (t.bits - segBits)
	var hot []hotPart
	for r := range 1 << segBits {
		g.off = append(g.off, uint32(w.position()-g.start))
		w.total = 0
		for p := r * perRange; p < (r+1)*perRange; p++ {
			keys, err := s.hotKeys(t, p)
			if err == nil && len(keys) == 0 {
				for _, b := range t.blocksOf(t.parts[p]) {
					if err = w.write(b); err != nil {
						break
					}
				}
			} else if err == nil {
				hot = append(hot, hotPart{p, keys})
				err = w.writeEntries(t, p, func(key []byte) bool { return !isHot(keys, key) })
			}
			if err != nil {
				return nil, err
			}
		}
		w.endBlock()
		if w.comp.codec != None {
			g.raw = append(g.raw, uint32(w.total))
		}
	}
	g.off = append(g.off, uint32(w.position()-g.start))
	for _, part := range hot {
		for _, h := range part.keys {
			at := w.position()
			if err := w.writeEntries(t, part.index, func(key []byte) bool { return bytes.Equal(key, h.key) }); err != nil {
				return nil, err
			}
			w.endBlock()
			h.off, h.n = uint32(at-g.start), uint32(w.position()-at)
			g.hot = append(g.hot, h)
		}
	}
	slices.SortFunc(g.hot, compareHot)
	w.out = append(w.out, g.encodeFooter(s.seed, w.position())...)
	if err := w.flush(); err != nil {
		return nil, err
	}
	f.dirty.Store(true)
	g.end = w.off
	return g, nil
}

// hotPart is a part of a table that has hot keys.
type hotPart struct {
	index int
	keys  []hotRun
}

// writeEntries writes the entries of a part whose keys are chosen.
func (w *segmentWriter) writeEntries(t *table, p int, choose func(key []byte) bool) error {
	r := entryReader{src: &sliceSource{t.blocksOf(t.parts[p])}}
	for {
		e, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if choose(e.key) {
			if err := w.write(e.raw); err != nil {
				return err
			}
		}
	}
}
