package segment

import (
	"encoding/binary"
	"io"
	"slices"
)

// Writer writes a segment: its ranges in increasing order, then the runs of hot keys (see
// [HotRun]), then the footer.
type Writer struct {
	Layout   // describes the data written so far
	file     *File
	dst      io.WriterAt
	comp     *Compressor
	off      int64  // offset in dst of the first byte of out
	out      []byte // blocks that are not yet written
	block    int    // offset of the current block in out, or -1
	raw      []byte // uncompressed current block, if blocks are compressed
	rawLen   int    // uncompressed length of the current range
	runStart int64  // offset of the current run from the start of the segment
}

const WriteSize = 1 << 20 // approximate size of a write, in bytes

// NewWriter starts a segment of 2^bits ranges at offset start of dst. buffers, for reuse,
// are from [Writer.Buffers] of an earlier writer, or nil.
func NewWriter(f *File, dst io.WriterAt, start int64, bits uint8, comp *Compressor, buffers [2][]byte) *Writer {
	w := &Writer{file: f, dst: dst, comp: comp, off: start, out: buffers[0][:0], raw: buffers[1][:0], block: -1}
	w.Layout = Layout{Start: start, Bits: bits, Offsets: make([]uint32, 0, 1<<bits+1)}
	if comp.codec != codecNone {
		w.RawLens = make([]uint32, 1<<bits)
	}
	return w
}

// Buffers returns the writer's buffers for reuse. The writer must no longer be used.
func (w *Writer) Buffers() [2][]byte { return [2][]byte{w.out, w.raw} }

// Size returns the length of the segment so far.
func (w *Writer) Size() int64 { return w.off + int64(len(w.out)) - w.Start }

// BeginRange begins range i. Ranges that the caller skips are empty.
func (w *Writer) BeginRange(i int) {
	for len(w.Layout.Offsets) <= i {
		w.Layout.Offsets = append(w.Layout.Offsets, uint32(w.Size()))
	}
	w.rawLen = 0
}

func (w *Writer) EndRange(i int) {
	w.endBlock()
	if w.RawLens != nil {
		w.RawLens[i] = uint32(w.rawLen)
	}
	w.Layout.Offsets = append(w.Layout.Offsets[:i+1], uint32(w.Size())) // start of the next range
}

// BeginRun begins the run of a hot key. After it, no range can begin.
func (w *Writer) BeginRun() {
	w.BeginRange(1 << w.Bits)
	w.runStart = w.Size()
}

// EndRun ends the run of a hot key and adds h, with Off and Len set, to the layout.
func (w *Writer) EndRun(h HotRun) {
	w.endBlock()
	h.Off, h.Len = uint32(w.runStart), uint32(w.Size()-w.runStart)
	w.Hot = append(w.Hot, h)
}

func (w *Writer) Finish(ledger []byte) error {
	w.BeginRange(1 << w.Bits)
	slices.SortFunc(w.Hot, CompareHot)
	w.out = append(w.out, w.EncodeFooter(w.file, ledger, w.Start+w.Size())...)
	w.End = w.Start + w.Size()
	return w.flush()
}

// Write appends encoded entries to the current range or run.
func (w *Writer) Write(p []byte) error {
	w.rawLen += len(p)
	for len(p) > 0 {
		if w.block < 0 {
			if len(w.out) > WriteSize {
				if err := w.flush(); err != nil {
					return err
				}
			}
			w.block = len(w.out)
			w.out = append(w.out, make([]byte, blockHeaderLen)...)
		}
		buf, start := &w.out, w.block+blockHeaderLen
		if w.comp.codec != codecNone {
			buf, start = &w.raw, 0
		}
		n := min(len(p), start+blockLen-len(*buf))
		*buf = append(*buf, p[:n]...)
		if len(*buf) == start+blockLen {
			w.endBlock()
		}
		p = p[n:]
	}
	return nil
}

// endBlock completes the current block:
//
//	CRC (4) · codec << 24 | stored length (4) · length (4) · stored bytes
//
// The CRC covers the block's other bytes and is salted with the block's position.
func (w *Writer) endBlock() {
	if w.block < 0 {
		return
	}
	rawLen, c := len(w.out)-w.block-blockHeaderLen, codecNone
	if w.comp.codec != codecNone {
		var stored []byte
		rawLen = len(w.raw)
		stored, c = w.comp.compress(w.raw)
		w.out = append(w.out, stored...)
		w.raw = w.raw[:0]
	}
	b := w.out[w.block:]
	le := binary.LittleEndian
	le.PutUint32(b[4:], uint32(c)<<24|uint32(len(b)-blockHeaderLen))
	le.PutUint32(b[8:], uint32(rawLen))
	le.PutUint32(b, w.file.SaltedCRC(w.file.Number, w.off+int64(w.block), b[4:]))
	w.block = -1
}

func (w *Writer) flush() error {
	if _, err := w.dst.WriteAt(w.out, w.off); err != nil {
		return err
	}
	w.off += int64(len(w.out))
	w.out = w.out[:0]
	return nil
}
