package logstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
)

// Verify reads all blocks of all segments, and all large values that they refer to. It
// verifies all checksums, the ledger of each segment, and the information about hot keys
// in its footer. (Open already checks that the segments' ledgers add up to the store's.)
// Verify continues after damage, and joins all errors. readable is the ledger of all
// readable data.
func (s *Store) Verify(ctx context.Context) (readable Ledger, err error) {
	if ctx.Err() != nil {
		return readable, s.errorf("verify", canceled.Err(ctx))
	}
	v, err := s.scanView(ctx)
	if err != nil {
		return readable, s.errorf("verify", err)
	}
	c := &checker{ctx: ctx, s: s, v: v}
	for _, g := range v.segments {
		l, err := c.verifySegment(g)
		readable.Add(l)
		if ctx.Err() != nil {
			return readable, s.errorf("verify", errors.Join(err, v.close()))
		}
		c.report(err)
	}
	for i := range v.tables {
		t := &v.tables[i]
		var l Ledger
		for p := range t.parts {
			c.report(c.run(t.t.source(t.parts[p]), nil, &l))
		}
		if err := t.ledger.Diff(l); err != nil {
			c.report(&partd.CorruptError{Path: s.dir, Offset: -1, Err: fmt.Errorf("data not yet in a segment: %w", err)})
		}
		readable.Add(l)
	}
	c.report(v.close())
	return readable, s.errorf("verify", errors.Join(c.errs...))
}

// Check implements [partd.Checker] by calling Verify.
func (s *Store) Check(ctx context.Context) (partd.CheckResult, error) {
	ledger, err := s.Verify(ctx)
	return partd.CheckResult{Records: ledger.Pieces, Segments: int64(s.SegmentCount()), Sum: &ledger.Sum}, err
}

// SegmentCount returns the number of segments. Each was a full table, or was written by
// Flush or Close. The newest records are not in segments yet.
func (s *Store) SegmentCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.segments.list)
}

// maxFindings is the maximum number of errors that Verify reports.
const maxFindings = 100

type checker struct {
	ctx  context.Context
	s    *Store
	v    *view
	errs []error
	rr   segment.Reader
}

func (c *checker) report(err error) {
	switch {
	case err == nil:
	case len(c.errs) < maxFindings:
		c.errs = append(c.errs, err)
	case len(c.errs) == maxFindings:
		c.errs = append(c.errs, errors.New("and more errors"))
	}
}

// verifySegment checks a segment. If a run is damaged, its entries before the damage
// still count.
func (c *checker) verifySegment(g *storedSegment) (Ledger, error) {
	var l Ledger
	for r := range len(g.Offsets) - 1 {
		if c.ctx.Err() != nil {
			return l, canceled.Err(c.ctx)
		}
		c.rr.Reset(&g.file.File, g.Start+int64(g.Offsets[r]), g.Start+int64(g.Offsets[r+1]))
		err := c.run(&c.rr, func(e *segment.Entry) error {
			if g.RangeIndex(c.s.format.HashBytes(e.Key)) != r {
				return fmt.Errorf("key %s is in the wrong range", partd.QuoteKey(string(e.Key)))
			}
			if len(g.Hot) > 0 && g.FindHot(c.s.format.HashBytes(e.Key), e.Key) != nil {
				return fmt.Errorf("key %s has a hot run, but is also in a range", partd.QuoteKey(string(e.Key)))
			}
			return nil
		}, &l)
		c.report(c.locate(g, int64(g.Offsets[r]), err))
	}
	for i := range g.Hot {
		c.report(c.locate(g, int64(g.Hot[i].Off), c.hotRun(g, i, &l)))
	}
	if err := g.ledger.Diff(l); err != nil {
		return l, g.file.Corrupt(g.Start, fmt.Errorf("in this segment, %w", err))
	}
	return l, nil
}

// hotRun checks the run of a hot key against the footer, which Keys and Stat rely on.
func (c *checker) hotRun(g *storedSegment, i int, l *Ledger) error {
	h := &g.Hot[i]
	name := partd.QuoteKey(string(h.Key))
	if h.Hash != c.s.format.HashBytes(h.Key) {
		return fmt.Errorf("the footer has a wrong hash of key %s", name)
	}
	if i > 0 && segment.CompareHot(g.Hot[i-1], *h) >= 0 {
		return fmt.Errorf("in the footer, key %s is out of order", name)
	}
	var k keySize
	err := c.run(g.openHotRun(&c.rr, h), func(e *segment.Entry) error {
		if string(e.Key) != string(h.Key) {
			return fmt.Errorf("key %s is in another key's run", partd.QuoteKey(string(e.Key)))
		}
		return k.add(e)
	}, l)
	if err != nil {
		return err
	}
	if k.bytes != h.Bytes || k.resets != h.Resets || k.deleted != h.Deleted {
		return fmt.Errorf("the footer describes the run of key %s as %d bytes, resets %t, deleted %t; but it has %d bytes, resets %t, deleted %t",
			name, h.Bytes, h.Resets, h.Deleted, k.bytes, k.resets, k.deleted)
	}
	return nil
}

// locate adds the position to an error that has none.
func (c *checker) locate(g *storedSegment, off int64, err error) error {
	if err == nil || errors.As(err, new(*partd.CorruptError)) {
		return err
	}
	return g.file.Corrupt(g.Start+off, err)
}

func (c *checker) run(src segment.Source, check func(e *segment.Entry) error, l *Ledger) error {
	return segment.EachEntry(src, func(e *segment.Entry) error {
		if check != nil {
			if err := check(e); err != nil {
				return err
			}
		}
		c.report(c.v.files.addEntry(l, e))
		return nil
	})
}
