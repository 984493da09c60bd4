package objstore

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/offheap"
	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/spill"
	"github.com/go-partd/partd/internal/vfs"
)

// regroup reads the interval of each segment once. It divides the entries by the hashes
// of their keys among piles in a temporary file, then groups and yields pile after pile.
func (sc *scanner) regroup(ctx context.Context, all interval, p piling) (err error) {
	sp, err := sc.newSpread(all, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sp.close()) }()
	if err := sc.run(ctx, sp.batches(), sp.add); err != nil {
		return err
	}
	if err := sp.finish(); err != nil {
		return err
	}
	return sc.run(ctx, sp.loads(), sc.emit)
}

// spread is entries on their way to the disk, or there.
type spread struct {
	interval
	sc      *scanner
	step    uint64 // hashes of a pile
	piles   []pile
	slab    []byte // what they gather
	block   int
	file    *spill.File
	written int64
	taken   int64 // of what the store may have on the disk
}

// pile is the entries of some hashes, in the order of the log, in sections with a head:
//
//	number of the segment (4) · bytes of the entries (4)
type pile struct {
	interval
	room, buf                []byte // what is not written yet
	head                     int    // where in buf the last section begins
	segment                  int32  // of that
	blocks                   []int32
	bytes, entries, sections int64
}

const sectionHead = 8

func (sc *scanner) newSpread(all interval, p piling) (*spread, error) {
	s := sc.store
	sp := &spread{interval: all, sc: sc, block: p.block, step: (all.hi-all.lo)/uint64(p.piles) + 1}
	if err := sp.take(p.need); err != nil {
		return nil, err
	}
	err := sp.enoughFree(p.need)
	if err == nil {
		sp.slab, err = offheap.Allocate(p.piles * p.block)
	}
	if err == nil {
		sp.file, err = spill.Create(s.temp, "entries of a bucket", max(p.block, 1<<20))
		err = sp.failed(err)
	}
	if err != nil {
		return nil, errors.Join(err, sp.close())
	}
	for i := range p.piles {
		lo := all.lo + uint64(i)*sp.step
		at := sp.slab[i*p.block : i*p.block : (i+1)*p.block]
		hi, last := lo+sp.step-1, all.hi-lo < sp.step
		if last {
			hi = all.hi
		}
		sp.piles = append(sp.piles, pile{interval: interval{lo, hi}, room: at, buf: at})
		if last {
			break
		}
	}
	return sp, nil
}

// take takes more of the disk that the store may use.
func (sp *spread) take(n int64) error {
	s := sp.sc.store
	if used := s.disk.Add(n); used > s.opts.Disk {
		s.disk.Add(-n)
		return tooMuchDisk(sp.taken+n, s.opts.Disk, used-n-sp.taken)
	}
	sp.taken += n
	return nil
}

// tooMuchDisk is the error of a reader that needs more than it may have.
func tooMuchDisk(need, limit, others int64) error {
	return fmt.Errorf("reading in one pass takes about %s of disk, and the option disk allows %s, of which other readers have %s: "+
		"allow more, divide the store among more readers, or set disk=0 to read in many passes", mib(need), mib(limit), mib(others))
}

// enoughFree returns an error if the disk has not that much room.
func (sp *spread) enoughFree(need int64) error {
	o := &sp.sc.store.opts
	disk, ok := o.hooks.fs.(vfs.SpaceTeller)
	if !ok {
		return nil
	}
	free, err := disk.Free(o.DiskDir)
	if err == nil && free < need {
		return fmt.Errorf("reading in one pass takes about %s of %s, which has %s left: name another directory by the option disk-dir, "+
			"divide the store among more readers, or set disk=0 to read in many passes: %w", mib(need), o.DiskDir, mib(free), syscall.ENOSPC)
	}
	return sp.failed(err)
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }

// failed adds to an error of the temporary file what can be done.
func (sp *spread) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("regrouping in a temporary file in %s (the option disk-dir names another directory, and disk=0 reads in many passes without a file): %w",
		sp.sc.store.opts.DiskDir, err)
}

func (sp *spread) close() error {
	offheap.Release(sp.slab)
	sp.sc.store.disk.Add(-sp.taken)
	return sp.file.Close()
}

// batches returns what is to be read of the bucket, one after the other, in the order
// of the log: the interval of some segments, or a part of it of one.
func (sp *spread) batches() func() *pass {
	sc, limit := sp.sc, sp.sc.batch()
	next, from := 0, sp.lo
	return func() *pass {
		first, bytes := next, int64(0)
		for next < len(sc.view.segments) && (next == first || from == sp.lo) {
			n, _ := sc.view.segments[next].weight(interval{from, sp.hi})
			if bytes+n > limit {
				break
			}
			bytes += n
			next++
		}
		iv := interval{from, sp.hi}
		end := next
		from = sp.lo
		if end == len(sc.view.segments) && end == first {
			return nil
		}
		if end == first { // not even one
			g := sc.view.segments[first]
			r, all := g.rangesOf(iv)
			stop := r + 1
			for stop < all && int64(g.Off[stop+1]-g.Off[r]) <= limit {
				stop++
			}
			bytes, end = int64(g.Off[stop]-g.Off[r]), first+1
			if stop == all {
				next++
			} else {
				_, iv.hi = segment.Bounds(r, stop, g.Bits)
				from = iv.hi + 1
			}
		}
		if bytes > limit { // one range is more
			return &pass{wide: func(ctx context.Context) error {
				return sc.eachOf(ctx, first, iv, func(number int, e *segment.Entry, hash uint64) error {
					return sp.put(int32(number), hash, e.Raw)
				})
			}}
		}
		return &pass{load: func(ctx context.Context) *loaded { return sc.loadAll(ctx, first, end, iv, bytes) }}
	}
}

// add puts what was read on the piles.
func (sp *spread) add(ctx context.Context, l *loaded) error {
	for _, sec := range l.sections {
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		for at := 0; at < len(sec.entries); {
			p, err := parse(sec.entries, at)
			if err != nil {
				g := sp.sc.view.segments[sec.segment]
				first, _ := g.rangesOf(l.interval)
				return g.file.Corrupt(g.Start+int64(g.Off[first]), err)
			}
			if hash := sp.sc.store.format.HashBytes(sec.entries[p.key:p.value]); l.has(hash) {
				if err := sp.put(sec.segment, hash, sec.entries[at:p.end]); err != nil {
					return err
				}
			}
			at = p.end
		}
	}
	return nil
}

func (sp *spread) put(number int32, hash uint64, entry []byte) error {
	p := &sp.piles[(hash-sp.lo)/sp.step]
	if len(p.buf)+sectionHead+len(entry) > sp.block {
		if err := sp.flush(p); err != nil {
			return err
		}
	}
	if len(p.buf) == 0 || p.segment != number {
		p.endSection()
		p.segment, p.head = number, len(p.buf)
		p.buf = le.AppendUint32(p.buf, uint32(number))
		p.buf = le.AppendUint32(p.buf, 0)
		p.sections++
	}
	p.buf = append(p.buf, entry...) // one that is longer than a block has a buffer of its own
	p.entries++
	return nil
}

func (p *pile) endSection() {
	if len(p.buf) > 0 {
		le.PutUint32(p.buf[p.head+4:], uint32(len(p.buf)-p.head-sectionHead))
	}
}

// flush writes what a pile has gathered as a block.
func (sp *spread) flush(p *pile) error {
	n := len(p.buf)
	if n == 0 {
		return nil
	}
	p.endSection()
	if sp.written += int64(n); sp.written > sp.taken {
		if err := sp.take(sp.written - sp.taken); err != nil {
			return err
		}
	}
	if err := sp.file.Room(n); err != nil {
		return sp.failed(err)
	}
	sp.file.Buf = append(sp.file.Buf, p.buf...)
	sp.file.End()
	p.blocks = append(p.blocks, int32(sp.file.Blocks()-1))
	p.bytes += int64(n)
	p.buf = p.room
	return nil
}

func (sp *spread) finish() error {
	for i := range sp.piles {
		if err := sp.flush(&sp.piles[i]); err != nil {
			return err
		}
	}
	offheap.Release(sp.slab)
	sp.slab = nil
	return sp.failed(sp.file.Finish())
}

// loads returns the piles, one after the other.
func (sp *spread) loads() func() *pass {
	next := 0
	return func() *pass {
		for next < len(sp.piles) {
			p := &sp.piles[next]
			next++
			switch weight := p.bytes + p.bytes/8 + p.entries*perEntry + p.sections*perSection; {
			case weight == 0:
			case weight > sp.sc.budget:
				return &pass{wide: func(ctx context.Context) error { return sp.sc.scanWide(ctx, sp.source(p), p.interval) }}
			default:
				return &pass{load: func(context.Context) *loaded { return sp.load(p) }}
			}
		}
		return nil
	}
}

// load reads a pile.
func (sp *spread) load(p *pile) *loaded {
	l := &loaded{interval: p.interval, sections: make([]section, 0, p.sections)}
	if l.arena, l.err = offheap.Allocate(int(p.bytes)); l.err != nil {
		return l
	}
	at := 0
	for _, n := range p.blocks {
		b, err := sp.file.Read(l.arena[at:], int(n), 1)
		if err != nil {
			l.err = sp.failed(err)
			return l
		}
		for s := range sections(b) {
			s.at += uint32(at)
			l.sections = append(l.sections, s)
		}
		at += len(b)
	}
	return l
}

// sections yields the sections of a block.
func sections(b []byte) func(yield func(section) bool) {
	return func(yield func(section) bool) {
		for at := 0; at < len(b); {
			number, n := le.Uint32(b[at:]), int(le.Uint32(b[at+4:]))
			at += sectionHead
			if !yield(section{int32(number), uint32(at), b[at : at+n]}) {
				return
			}
			at += n
		}
	}
}

// source returns a pile that does not fit in memory as a source.
func (sp *spread) source(p *pile) source {
	return func(ctx context.Context, iv interval, f func(number int, e *segment.Entry, hash uint64) error) error {
		var buf []byte
		for _, n := range p.blocks {
			if ctx.Err() != nil {
				return canceled.Err(ctx)
			}
			var err error
			if buf, err = sp.file.Read(buf, int(n), 1); err != nil {
				return sp.failed(err)
			}
			for s := range sections(buf) {
				err = segment.EachEntry(&segment.Slices{Blocks: [][]byte{s.entries}}, func(e *segment.Entry) error {
					if hash := sp.sc.store.format.HashBytes(e.Key); iv.has(hash) {
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
