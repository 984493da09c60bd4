package logstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/storekit"
)

// verify reads all data and verifies all checksums and ledgers. It continues after damage and joins
// all errors. readable is the ledger of all readable data.
func (s *Store) verify(ctx context.Context) (readable segment.Ledger, err error) {
	if ctx.Err() != nil {
		return readable, s.opError("verify", canceled.Err(ctx))
	}
	v, err := s.scanView(ctx)
	if err != nil {
		return readable, s.opError("verify", err)
	}
	c := &checker{s: s, v: v}
	for _, seg := range v.segments {
		l, err := c.verifySegment(ctx, seg)
		readable.Add(l)
		if ctx.Err() != nil {
			return readable, s.opError("verify", errors.Join(err, v.close()))
		}
		c.report(err)
	}
	for i := range v.tables {
		t := &v.tables[i]
		var l segment.Ledger
		for p := range t.parts {
			c.report(c.checkEntries(t.table.source(t.parts[p]), nil, &l))
		}
		if err := t.ledger.Diff(l); err != nil {
			c.report(&partd.CorruptError{Path: s.dir, Offset: -1, Err: fmt.Errorf("data not yet in a segment: %w", err)})
		}
		readable.Add(l)
	}
	c.report(v.close())
	return readable, s.opError("verify", errors.Join(c.errs...))
}

// Check reads all data and verifies all checksums; see [partd.Checker]. The result covers all
// readable data.
func (s *Store) Check(ctx context.Context) (partd.CheckResult, error) {
	l, err := s.verify(ctx)
	return partd.CheckResult{Records: l.Pieces, Segments: int64(s.SegmentCount()), Sum: (*partd.Sum)(&l.Sum)}, err
}

// SegmentCount returns the number of segments.
func (s *Store) SegmentCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.segments.list)
}

const maxErrors = 100

type checker struct {
	s      *Store
	v      *view
	errs   []error
	reader segment.Reader
}

func (c *checker) report(err error) {
	switch {
	case err == nil:
	case len(c.errs) < maxErrors:
		c.errs = append(c.errs, err)
	case len(c.errs) == maxErrors:
		c.errs = append(c.errs, errors.New("there are more errors"))
	}
}

// verifySegment checks a segment and returns the ledger of its readable entries.
func (c *checker) verifySegment(ctx context.Context, seg *storedSegment) (segment.Ledger, error) {
	var l segment.Ledger
	for r := range len(seg.Offsets) - 1 {
		if ctx.Err() != nil {
			return l, canceled.Err(ctx)
		}
		c.reader.Reset(&seg.file.File, seg.Start+int64(seg.Offsets[r]), seg.Start+int64(seg.Offsets[r+1]))
		err := c.checkEntries(&c.reader, func(e *segment.Entry) error {
			hash := c.s.format.HashBytes(e.Key)
			if seg.RangeIndex(hash) != r {
				return wrongRangeError(e.Key)
			}
			if segment.FindHot(seg.Hot, hash, e.Key) != nil {
				return fmt.Errorf("key %s has a run of its own, but is also in a hash range", storekit.QuoteKey(string(e.Key)))
			}
			return nil
		}, &l)
		c.report(c.locate(seg, int64(seg.Offsets[r]), err))
	}
	for i := range seg.Hot {
		c.report(c.locate(seg, int64(seg.Hot[i].Off), c.checkHotRun(seg, i, &l)))
	}
	if err := seg.ledger.Diff(l); err != nil {
		return l, seg.file.Corrupt(seg.Start, fmt.Errorf("in this segment, %w", err))
	}
	return l, nil
}

// checkHotRun checks hot run i against its description in the footer, which Keys and Stat rely on.
func (c *checker) checkHotRun(seg *storedSegment, i int, l *segment.Ledger) error {
	h := &seg.Hot[i]
	name := storekit.QuoteKey(string(h.Key))
	if h.Hash != c.s.format.HashBytes(h.Key) {
		return fmt.Errorf("the footer has the wrong hash for key %s", name)
	}
	if i > 0 && segment.CompareHot(seg.Hot[i-1], *h) >= 0 {
		return fmt.Errorf("in the footer, key %s is out of order", name)
	}
	var k keySize
	err := c.checkEntries(seg.openHotRun(&c.reader, h), func(e *segment.Entry) error {
		if string(e.Key) != string(h.Key) {
			return fmt.Errorf("key %s is in another key's run", storekit.QuoteKey(string(e.Key)))
		}
		return k.add(e)
	}, l)
	if err != nil {
		return err
	}
	if k.valueLen != h.Bytes || k.resets != h.Resets || k.deleted != h.Deleted {
		return fmt.Errorf("the footer does not match the run of key %s: the footer has %d bytes, resets %t, deleted %t; the run has %d bytes, resets %t, deleted %t",
			name, h.Bytes, h.Resets, h.Deleted, k.valueLen, k.resets, k.deleted)
	}
	return nil
}

// locate adds a position, off bytes after the segment's start, to an error that has none.
func (c *checker) locate(seg *storedSegment, off int64, err error) error {
	if err == nil || errors.As(err, new(*partd.CorruptError)) {
		return err
	}
	return seg.file.Corrupt(seg.Start+off, err)
}

func (c *checker) checkEntries(src segment.Source, check func(e *segment.Entry) error, l *segment.Ledger) error {
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
