package logstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
)

// Verify reads every block of every segment and every large value that they refer to, and
// compares all checksums, the ledger of each segment, and what its footer says of hot
// keys. (Open already checks that the ledgers of the segments add up to that of the
// store.) It continues after damage, and joins all errors. The ledger found accounts for
// the data that could be read.
func (s *Store) Verify(ctx context.Context) (found Ledger, err error) {
	if ctx.Err() != nil {
		return found, s.errorf("verify", canceled.Err(ctx))
	}
	v, err := s.scanView(ctx)
	if err != nil {
		return found, s.errorf("verify", err)
	}
	c := &checker{ctx: ctx, s: s, v: v}
	for _, g := range v.segments {
		l, err := c.segment(g)
		found.Add(l)
		if ctx.Err() != nil {
			return found, s.errorf("verify", errors.Join(err, v.close()))
		}
		c.found(err)
	}
	for i := range v.tables {
		t := &v.tables[i]
		var l Ledger
		for p := range t.parts {
			c.found(c.run(t.t.source(t.parts[p]), nil, &l))
		}
		if err := t.ledger.Diff(l); err != nil {
			c.found(&partd.CorruptError{Path: s.dir, Offset: -1, Err: fmt.Errorf("of what is in no segment yet, %w", err)})
		}
		found.Add(l)
	}
	c.found(v.close())
	return found, s.errorf("verify", errors.Join(c.errs...))
}

// Check implements [partd.Checker]; it calls Verify.
func (s *Store) Check(ctx context.Context) (partd.Checked, error) {
	found, err := s.Verify(ctx)
	return partd.Checked{Records: found.Pieces, Segments: int64(s.Segments()), Sum: &found.Sum}, err
}

// Segments returns the number of segments. Each was a full table, or was
// written out by a Flush or Close. Newer records are in none of them.
func (s *Store) Segments() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.segments.list)
}

// maxFindings bounds what Verify reports one by one.
const maxFindings = 100

type checker struct {
	ctx  context.Context
	s    *Store
	v    *view
	errs []error
	rr   segment.Reader
}

func (c *checker) found(err error) {
	switch {
	case err == nil:
	case len(c.errs) < maxFindings:
		c.errs = append(c.errs, err)
	case len(c.errs) == maxFindings:
		c.errs = append(c.errs, errors.New("and more"))
	}
}

// segment reads a segment. Of damaged runs, what is before the damage counts.
func (c *checker) segment(g *storedSegment) (Ledger, error) {
	var l Ledger
	for r := range len(g.Off) - 1 {
		if c.ctx.Err() != nil {
			return l, canceled.Err(c.ctx)
		}
		c.rr.Reset(&g.file.File, g.Start+int64(g.Off[r]), g.Start+int64(g.Off[r+1]))
		err := c.run(&c.rr, func(e *segment.Entry) error {
			if g.RangeOf(c.s.format.HashBytes(e.Key)) != r {
				return fmt.Errorf("key %s is in a range that is not its own", partd.QuoteKey(string(e.Key)))
			}
			if len(g.Hot) > 0 && g.HotFor(c.s.format.HashBytes(e.Key), e.Key) != nil {
				return fmt.Errorf("key %s has a run of its own, and is in a range, too", partd.QuoteKey(string(e.Key)))
			}
			return nil
		}, &l)
		c.found(c.place(g, int64(g.Off[r]), err))
	}
	for i := range g.Hot {
		c.found(c.place(g, int64(g.Hot[i].Off), c.hotRun(g, i, &l)))
	}
	if err := g.ledger.Diff(l); err != nil {
		return l, g.file.Corrupt(g.Start, fmt.Errorf("in this segment %w", err))
	}
	return l, nil
}

// hotRun reads the run of a hot key, and compares it with what the footer says.
// Keys and Stat believe the footer.
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
	err := c.run(g.hotRun(&c.rr, h), func(e *segment.Entry) error {
		if string(e.Key) != string(h.Key) {
			return fmt.Errorf("key %s is in the run of another", partd.QuoteKey(string(e.Key)))
		}
		return k.add(e)
	}, l)
	if err != nil {
		return err
	}
	if k.bytes != h.Bytes || k.reset != h.Reset || k.gone != h.Gone {
		return fmt.Errorf("the footer says of the run of key %s: %d bytes, reset %t, gone %t; found were %d bytes, reset %t, gone %t",
			name, h.Bytes, h.Reset, h.Gone, k.bytes, k.reset, k.gone)
	}
	return nil
}

// place says where an error was found, unless it says so itself.
func (c *checker) place(g *storedSegment, off int64, err error) error {
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
		c.found(c.v.files.accountAll(l, e))
		return nil
	})
}
