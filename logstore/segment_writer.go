package logstore

import (
	"encoding/binary"
	"io"
	"slices"
)

// segmentWriter writes a segment: its ranges in order, then runs of hot keys,
// each with one more number than the one before, then the footer.
type segmentWriter struct {
	layout // of what was written so far
	file   *file
	dst    io.WriterAt
	comp   *compressor
	off    int64  // where in dst out goes
	out    []byte // blocks not yet written
	block  int    // where in out the current block begins, -1 if none
	plain  []byte // the current block, if it is to be compressed
	total  int    // bytes before compression of the current range
	run    int64  // where the current run of a hot key begins
}

const writeLen = 1 << 20 // bytes per write call

// newSegmentWriter begins a segment of 2^bits ranges at an offset. bufs are for
// blocks, and are grown where they are too short.
func newSegmentWriter(f *file, dst io.WriterAt, start int64, bits uint8, comp *compressor, bufs [2][]byte) *segmentWriter {
	w := &segmentWriter{file: f, dst: dst, comp: comp, off: start, out: bufs[0][:0], plain: bufs[1][:0], block: -1}
	w.layout = layout{start: start, bits: bits, off: make([]uint32, 0, 1<<bits+1)}
	if comp.codec != codecNone {
		w.raw = make([]uint32, 1<<bits)
	}
	return w
}

// bufs returns the writer's buffers, for another one once this one is done.
func (w *segmentWriter) bufs() [2][]byte { return [2][]byte{w.out, w.plain} }

// written is how long the segment is so far.
func (w *segmentWriter) written() int64 { return w.off + int64(len(w.out)) - w.start }

// beginRange begins a range. Those before it that were not written are empty.
func (w *segmentWriter) beginRange(i int) {
	for len(w.layout.off) <= i {
		w.layout.off = append(w.layout.off, uint32(w.written()))
	}
	w.total = 0
}

func (w *segmentWriter) endRange(i int) {
	w.endBlock()
	if w.raw != nil {
		w.raw[i] = uint32(w.total)
	}
	w.layout.off = append(w.layout.off[:i+1], uint32(w.written())) // where the next one begins
}

// beginRun begins the run of a hot key. The rest of the ranges is empty.
func (w *segmentWriter) beginRun() {
	w.beginRange(1 << w.bits)
	w.run = w.written()
}

// endRun ends the run of a hot key, of which all is given but its place.
func (w *segmentWriter) endRun(h hotRun) {
	w.endBlock()
	h.off, h.n = uint32(w.run), uint32(w.written()-w.run)
	w.hot = append(w.hot, h)
}

// finish writes the footer.
func (w *segmentWriter) finish(ledger []byte) error {
	w.beginRange(1 << w.bits)
	slices.SortFunc(w.hot, compareHot)
	w.out = append(w.out, w.encodeFooter(w.file, ledger, w.start+w.written())...)
	w.end = w.start + w.written()
	return w.flush()
}

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
		if w.comp.codec == codecNone {
			n = min(len(p), blockLen-(len(w.out)-w.block-blockHeaderLen))
			w.out = append(w.out, p[:n]...)
			if len(w.out)-w.block-blockHeaderLen == blockLen {
				w.endBlock()
			}
		} else {
			n = min(len(p), blockLen-len(w.plain))
			w.plain = append(w.plain, p[:n]...)
			if len(w.plain) == blockLen {
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
	rawLen, c := len(w.out)-w.block-blockHeaderLen, codecNone
	if w.comp.codec != codecNone {
		var stored []byte
		rawLen = len(w.plain)
		stored, c = w.comp.compress(w.plain)
		w.out = append(w.out, stored...)
		w.plain = w.plain[:0]
	}
	b := w.out[w.block:]
	le := binary.LittleEndian
	le.PutUint32(b[4:], uint32(c)<<24|uint32(len(b)-blockHeaderLen))
	le.PutUint32(b[8:], uint32(rawLen))
	le.PutUint32(b, w.file.salted(w.file.number, w.off+int64(w.block), b[4:]))
	w.block = -1
}

// flush writes out all complete blocks.
func (w *segmentWriter) flush() error {
	if _, err := w.dst.WriteAt(w.out, w.off); err != nil {
		return err
	}
	w.off += int64(len(w.out))
	w.out = w.out[:0]
	return nil
}
