package segment

import (
	"encoding/binary"
	"io"
	"slices"
)

// Writer writes a segment: its ranges in order, then runs of hot keys,
// each with one more number than the one before, then the footer.
type Writer struct {
	Layout // of what was written so far
	file   *File
	dst    io.WriterAt
	comp   *Compressor
	off    int64  // where in dst out goes
	out    []byte // blocks not yet written
	block  int    // where in out the current block begins, -1 if none
	plain  []byte // the current block, if it is to be compressed
	total  int    // bytes before compression of the current range
	run    int64  // where the current run of a hot key begins
}

const WriteLen = 1 << 20 // bytes per write call

// NewWriter begins a segment of 2^bits ranges at an offset. bufs are for
// blocks, and are grown where they are too short.
func NewWriter(f *File, dst io.WriterAt, start int64, bits uint8, comp *Compressor, bufs [2][]byte) *Writer {
	w := &Writer{file: f, dst: dst, comp: comp, off: start, out: bufs[0][:0], plain: bufs[1][:0], block: -1}
	w.Layout = Layout{Start: start, Bits: bits, Off: make([]uint32, 0, 1<<bits+1)}
	if comp.codec != codecNone {
		w.Raw = make([]uint32, 1<<bits)
	}
	return w
}

// Bufs returns the writer's buffers, for another one once this one is done.
func (w *Writer) Bufs() [2][]byte { return [2][]byte{w.out, w.plain} }

// Written is how long the segment is so far.
func (w *Writer) Written() int64 { return w.off + int64(len(w.out)) - w.Start }

// BeginRange begins a range. Those before it that were not written are empty.
func (w *Writer) BeginRange(i int) {
	for len(w.Layout.Off) <= i {
		w.Layout.Off = append(w.Layout.Off, uint32(w.Written()))
	}
	w.total = 0
}

func (w *Writer) EndRange(i int) {
	w.endBlock()
	if w.Raw != nil {
		w.Raw[i] = uint32(w.total)
	}
	w.Layout.Off = append(w.Layout.Off[:i+1], uint32(w.Written())) // where the next one begins
}

// BeginRun begins the run of a hot key. The rest of the ranges is empty.
func (w *Writer) BeginRun() {
	w.BeginRange(1 << w.Bits)
	w.run = w.Written()
}

// EndRun ends the run of a hot key, of which all is given but its place.
func (w *Writer) EndRun(h HotRun) {
	w.endBlock()
	h.Off, h.Len = uint32(w.run), uint32(w.Written()-w.run)
	w.Hot = append(w.Hot, h)
}

func (w *Writer) Finish(ledger []byte) error {
	w.BeginRange(1 << w.Bits)
	slices.SortFunc(w.Hot, CompareHot)
	w.out = append(w.out, w.EncodeFooter(w.file, ledger, w.Start+w.Written())...)
	w.End = w.Start + w.Written()
	return w.flush()
}

// Write adds bytes to the current run.
func (w *Writer) Write(p []byte) error {
	w.total += len(p)
	for len(p) > 0 {
		if w.block < 0 {
			if len(w.out) > WriteLen {
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
func (w *Writer) endBlock() {
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
	le.PutUint32(b, w.file.Salted(w.file.Number, w.off+int64(w.block), b[4:]))
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
