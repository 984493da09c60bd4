package objstore

import (
	"context"
	"errors"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/engine/spill"
)

// regroup reads an interval of each segment once. It divides the entries by hash into piles in a
// temporary file. Then it reads the piles one after another and yields their keys.
func (sc *scanner) regroup(ctx context.Context, iv interval, p pileLayout) (err error) {
	pf, err := sc.newPileFile(iv, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pf.close()) }()
	if err := sc.run(ctx, pf.batches(), pf.add); err != nil {
		return err
	}
	if err := pf.finish(); err != nil {
		return err
	}
	return sc.run(ctx, pf.pileLoads(), sc.emit)
}

// pileFile distributes entries to piles in a temporary file.
type pileFile struct {
	interval
	sc        *scanner
	step      uint64 // hashes per pile
	piles     []pile
	slab      []byte // memory for the buffers of all piles
	blockSize int
	file      *spill.File
	written   int64
	reserved  int64 // bytes reserved from scanDisk
}

// pile contains the entries of an interval of hashes, in log order. They are stored in
// sections (lengths in bytes, integers little-endian):
//
//	index of the segment (4) · length of the entries (4) · entries
type pile struct {
	interval
	emptyBuf, buf            []byte  // initial and current buffer of unwritten data
	sectionStart             int     // position of the last section in buf
	segment                  int32   // segment of the last section
	blocks                   []int32 // numbers of the pile's blocks in the file
	bytes, entries, sections int64
}

func (sc *scanner) newPileFile(whole interval, p pileLayout) (*pileFile, error) {
	pf := &pileFile{interval: whole, sc: sc, blockSize: p.blockSize, step: (whole.hi-whole.lo)/uint64(p.piles) + 1}
	if err := sc.disk.reserve(p.diskBytes, &pf.reserved); err != nil {
		return nil, err
	}
	err := sc.disk.checkFree(p.diskBytes)
	if err == nil {
		pf.slab, err = offheap.Allocate(p.piles * p.blockSize)
	}
	if err == nil {
		pf.file, err = spill.Create(sc.disk.temp, "entries of a bucket", max(p.blockSize, 1<<20))
		err = sc.disk.fileError(err)
	}
	if err != nil {
		return nil, errors.Join(err, pf.close())
	}
	for i := range p.piles {
		lo := whole.lo + uint64(i)*pf.step
		buf := pf.slab[i*p.blockSize : i*p.blockSize : (i+1)*p.blockSize]
		hi, isLast := lo+pf.step-1, whole.hi-lo < pf.step
		if isLast {
			hi = whole.hi
		}
		pf.piles = append(pf.piles, pile{interval: interval{lo, hi}, emptyBuf: buf, buf: buf})
		if isLast {
			break
		}
	}
	return pf, nil
}

func (pf *pileFile) close() error {
	offheap.Release(pf.slab)
	pf.sc.disk.used.Add(-pf.reserved)
	return pf.file.Close()
}

// batches returns a function that returns the next batch to read from the bucket, in log order. A
// batch contains all entries that one or more segments have in the interval, or, if a single
// segment has too many, some of that segment's entries.
func (pf *pileFile) batches() func() *pass {
	sc, limit := pf.sc, pf.sc.batchBytes()
	nextSegment, startHash := 0, pf.lo
	return func() *pass {
		first, bytes := nextSegment, int64(0)
		for nextSegment < len(sc.view.segments) && (nextSegment == first || startHash == pf.lo) {
			n, _ := sc.view.segments[nextSegment].weight(interval{startHash, pf.hi})
			if bytes+n > limit {
				break
			}
			bytes += n
			nextSegment++
		}
		iv := interval{startHash, pf.hi}
		end := nextSegment
		startHash = pf.lo
		if end == len(sc.view.segments) && end == first {
			return nil
		}
		if end == first { // a single segment exceeds the limit
			g := sc.view.segments[first]
			firstRange, lastRange := g.rangesOf(iv)
			endRange := firstRange + 1
			for endRange < lastRange && int64(g.Offsets[endRange+1]-g.Offsets[firstRange]) <= limit {
				endRange++
			}
			bytes, end = int64(g.Offsets[endRange]-g.Offsets[firstRange]), first+1
			if endRange == lastRange {
				nextSegment++
			} else {
				_, iv.hi = segment.HashBounds(firstRange, endRange, g.Bits)
				startHash = iv.hi + 1
			}
		}
		if bytes > limit { // a single hash range exceeds the limit
			return &pass{stream: func(ctx context.Context) error {
				return sc.eachEntryOf(ctx, first, iv, func(number int, e *segment.Entry, hash uint64) error {
					return pf.put(int32(number), hash, e.Raw)
				})
			}}
		}
		return &pass{load: func(ctx context.Context) *loadedInterval { return sc.loadAll(ctx, first, end, iv, bytes) }}
	}
}

func (pf *pileFile) add(ctx context.Context, l *loadedInterval) error {
	for _, sec := range l.sections {
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		for off := 0; off < len(sec.entries); {
			p, err := parseEntry(sec.entries, off)
			if err != nil {
				g := pf.sc.view.segments[sec.segment]
				first, _ := g.rangesOf(l.interval)
				return g.file.Corrupt(g.Start+int64(g.Offsets[first]), err)
			}
			if hash := pf.sc.groups.format.HashBytes(sec.entries[p.key:p.value]); l.contains(hash) {
				if err := pf.put(sec.segment, hash, sec.entries[off:p.end]); err != nil {
					return err
				}
			}
			off = p.end
		}
	}
	return nil
}

func (pf *pileFile) put(number int32, hash uint64, entry []byte) error {
	p := &pf.piles[(hash-pf.lo)/pf.step]
	if len(p.buf)+sectionHead+len(entry) > pf.blockSize {
		if err := pf.flush(p); err != nil {
			return err
		}
	}
	if len(p.buf) == 0 || p.segment != number {
		p.endSection()
		p.segment, p.sectionStart = number, len(p.buf)
		p.buf = le.AppendUint32(p.buf, uint32(number))
		p.buf = le.AppendUint32(p.buf, 0)
		p.sections++
	}
	p.buf = append(p.buf, entry...) // the buffer grows if the entry is longer than a block
	p.entries++
	return nil
}

func (p *pile) endSection() {
	if len(p.buf) > 0 {
		le.PutUint32(p.buf[p.sectionStart+4:], uint32(len(p.buf)-p.sectionStart-sectionHead))
	}
}

func (pf *pileFile) flush(p *pile) error {
	n := len(p.buf)
	if n == 0 {
		return nil
	}
	p.endSection()
	pf.written += int64(n)
	if pf.written > pf.reserved {
		if err := pf.sc.disk.reserve(pf.written-pf.reserved, &pf.reserved); err != nil {
			return err
		}
	}
	if err := pf.file.Room(n); err != nil {
		return pf.sc.disk.fileError(err)
	}
	pf.file.Buf = append(pf.file.Buf, p.buf...)
	pf.file.End()
	p.blocks = append(p.blocks, int32(pf.file.Blocks()-1))
	p.bytes += int64(n)
	p.buf = p.emptyBuf
	return nil
}

func (pf *pileFile) finish() error {
	for i := range pf.piles {
		if err := pf.flush(&pf.piles[i]); err != nil {
			return err
		}
	}
	offheap.Release(pf.slab)
	pf.slab = nil
	return pf.sc.disk.fileError(pf.file.Finish())
}

// pileLoads returns a function that returns the pass for the next pile.
func (pf *pileFile) pileLoads() func() *pass {
	next := 0
	return func() *pass {
		for next < len(pf.piles) {
			p := &pf.piles[next]
			next++
			switch weight := p.bytes + p.bytes/8 + p.entries*entryOverhead + p.sections*sectionMemory; {
			case weight == 0:
			case weight > pf.sc.budget:
				return &pass{stream: func(ctx context.Context) error { return pf.sc.scanWide(ctx, pf.source(p), p.interval) }}
			default:
				return &pass{load: func(context.Context) *loadedInterval { return pf.load(p) }}
			}
		}
		return nil
	}
}

func (pf *pileFile) load(p *pile) *loadedInterval {
	l := &loadedInterval{interval: p.interval, sections: make([]section, 0, p.sections)}
	l.arena, l.err = offheap.Allocate(int(p.bytes))
	if l.err != nil {
		return l
	}
	off := 0
	for _, n := range p.blocks {
		b, err := pf.file.Read(l.arena[off:], int(n), 1)
		if err != nil {
			l.err = pf.sc.disk.fileError(err)
			return l
		}
		for s := range sections(b) {
			s.offset += uint32(off)
			l.sections = append(l.sections, s)
		}
		off += len(b)
	}
	return l
}

// sections yields the sections of a block of a pile. Their offsets are relative to the block.
func sections(b []byte) func(yield func(section) bool) {
	return func(yield func(section) bool) {
		for off := 0; off < len(b); {
			number, n := le.Uint32(b[off:]), int(le.Uint32(b[off+4:]))
			off += sectionHead
			if !yield(section{int32(number), uint32(off), b[off : off+n]}) {
				return
			}
			off += n
		}
	}
}

// source returns a source that reads a pile from the file, without loading all of it.
func (pf *pileFile) source(p *pile) source {
	return func(ctx context.Context, iv interval, f entryFunc) error {
		var buf []byte
		for _, n := range p.blocks {
			if ctx.Err() != nil {
				return canceled.Err(ctx)
			}
			var err error
			buf, err = pf.file.Read(buf, int(n), 1)
			if err != nil {
				return pf.sc.disk.fileError(err)
			}
			for s := range sections(buf) {
				err = segment.EachEntry(&segment.BlockList{Blocks: [][]byte{s.entries}}, func(e *segment.Entry) error {
					if hash := pf.sc.groups.format.HashBytes(e.Key); iv.contains(hash) {
						return f(int(s.segment), e, hash)
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
		}
		return nil
	}
}
