package filejobs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/engine/hashjoin"
	"github.com/go-partd/partd/internal/engine/mergejoin"
	"github.com/go-partd/partd/internal/jobs/records"
)

// joinHash joins the small side, which is in a table, with the large side, whose records it joins as
// they are read.
type joinHash struct {
	*joinEngine
	table        *hashjoin.Table
	small, large *joinSide
	batchSize    int // maximum number of records in a batch

	mu      sync.Mutex  // held while the header is written
	started atomic.Bool // the header was written and the columns of both sides are known
}

// joinProbe looks up records of the large side in the table, in one goroutine.
type joinProbe struct {
	*joinHash
	joinProof
	finder        hashjoin.Finder
	worker        *joinWorker
	out           *joinWriter
	write         func(stored []byte) error // writes a row of the current record and its match, a stored record or nil
	keys, records [][]byte                  // the current batch
}

// joinProof holds counts that must agree at the end.
type joinProof struct {
	read, joined                   ledger.Count // the large side's records, as read and as joined
	added, remaining               ledger.Count // the table's records, when added and at the end
	rows                           int64        // number of rows that the output must have
	smallUnmatched, largeUnmatched int64        // records without a match, by side
}

func (e *joinEngine) runHash(ctx context.Context, j *Job, small *joinStore) error {
	h := &joinHash{joinEngine: e, table: small.table, small: small.side, large: e.otherSide(small.side), batchSize: hashjoin.BatchSize}
	h.started.Store(!e.left.lateColumns && !e.right.lateColumns)
	if h.large.splitsAllFields {
		h.batchSize = 1 // join needs all fields, which are valid only until the next record
	}
	if err := h.table.Index(); err != nil {
		return err
	}
	var probes []*joinProbe
	for i := range j.Threads {
		p := &joinProbe{joinHash: h, finder: hashjoin.Finder{Table: h.table}, worker: &h.large.workers[i], out: e.output.newWriter(ctx, i)}
		p.write = func(rec []byte) error {
			if err := p.out.setFields(p.small, rec); err != nil {
				return err
			}
			return p.out.writeRow()
		}
		probes = append(probes, p)
	}
	j.current = h.large.job
	if err := h.large.readWith(ctx, func(b *records.Block) error { return probes[b.Worker].addBlock(b) }); err != nil {
		return err
	}
	if !h.started.Load() { // beginWith was not called, because the large side has no records
		if err := e.begin(); err != nil {
			return err
		}
	}
	return h.finish(j, probes)
}

func (p *joinProbe) addBlock(b *records.Block) error {
	for b.Next() {
		if !p.started.Load() {
			if err := p.beginWith(b); err != nil {
				return err
			}
		}
		key, ok := p.large.appendKeyOf(p.worker, b)
		if !ok {
			continue
		}
		p.read.AddRecord(b.Record)
		p.keys, p.records = append(p.keys, key), append(p.records, b.Record)
		if len(p.keys) == p.batchSize {
			if err := p.join(b.Fields); err != nil {
				return err
			}
		}
	}
	// Join the remaining records now, because the block is reused after this call.
	return p.join(nil)
}

// beginWith determines the columns from the large side's first record and writes the header.
func (p *joinProbe) beginWith(b *records.Block) error {
	if err := b.WaitForEarlier(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started.Load() {
		return nil
	}
	tally := &p.large.job.Tally
	tally.FirstRecord, tally.Records = bytes.Clone(b.Record), 1
	if err := p.begin(); err != nil {
		return err // leave started false: the columns are unknown, so no goroutine may write
	}
	p.started.Store(true)
	return nil
}

// join joins the records in the batch. If p.large.splitsAllFields is set, a batch has at most one
// record, and fields holds all of its fields. Otherwise, fields is not used.
func (p *joinProbe) join(fields [][]byte) error {
	n := len(p.large.fields)
	for i, position := range p.finder.Find(p.keys) {
		if len(p.keys[i]) == 0 && !p.MatchEmpty {
			position = 0
		}
		p.joined.AddRecord(p.records[i])
		if err := p.joinRecord(position, p.records[i], p.worker.keyFields[i*n:(i+1)*n], fields); err != nil {
			return err
		}
	}
	p.keys, p.records = p.keys[:0], p.records[:0]
	p.worker.keyFields, p.worker.key = p.worker.keyFields[:0], p.worker.key[:0]
	return nil
}

// joinRecord joins a record with its matches, a list in the table that begins at position. Position 0
// means that it has none.
func (p *joinProbe) joinRecord(position int, record []byte, keyFields, fields [][]byte) error {
	partners := 0
	if position != 0 {
		partners = p.table.MarkMatched(position)
	} else {
		p.largeUnmatched++
		if p.writesUnmatched(p.large) {
			partners = 1
		}
	}
	switch {
	case !p.Kind.Pairs() && p.large == p.left && (position != 0) == (p.Kind == mergejoin.Semi):
		p.rows++
		return p.out.writeWhole(record)
	case !p.Kind.Pairs() || partners == 0:
		return nil
	}
	p.rows += int64(partners)
	if err := p.out.setFields(p.large, p.large.storedForm(p.worker, record, keyFields, fields)); err != nil {
		return err
	}
	if position == 0 {
		return p.write(nil)
	}
	return p.table.Each(position, p.write)
}

func (e *joinEngine) writesUnmatched(s *joinSide) bool {
	return s.isRight && e.Kind.RightUnmatched() || !s.isRight && e.Kind.LeftUnmatched()
}

// finish writes the table's records without a match, if the output includes them. If the left side
// of a semi or anti join is in the table, finish writes the records that the join selects. Then it
// verifies the counts.
func (h *joinHash) finish(j *Job, probes []*joinProbe) error {
	errs := make([]error, len(probes))
	var tasks sync.WaitGroup
	for i, p := range probes {
		tasks.Go(func() {
			errs[i] = p.finish(i, len(probes))
			if errs[i] != nil {
				j.cancel(canceled.Failure(errs[i]))
			}
		})
	}
	tasks.Wait()
	if err := cmp.Or(errs...); err != nil {
		return err
	}
	total := joinProof{added: h.table.Added()}
	var writers []*joinWriter
	for _, p := range probes {
		total.add(&p.joinProof)
		writers = append(writers, p.out)
	}
	if err := cmp.Or(total.verify(h.large.job.Tally.Records), h.output.verifyRows(total.rows, writers...)); err != nil {
		return err
	}
	stats := mergejoin.Stats{Rows: total.rows, LeftUnmatched: total.largeUnmatched, RightUnmatched: total.smallUnmatched}
	sums, name := [2]ledger.Sum128{total.read.Sum, total.added.Sum}, "right"
	if h.small == h.left {
		stats.LeftUnmatched, stats.RightUnmatched = stats.RightUnmatched, stats.LeftUnmatched
		sums[0], sums[1], name = sums[1], sums[0], "left"
	}
	h.report(j, stats, sums, Line{"engine", "engine", "hash; the " + name + " file was in memory", "hash"}, 0, 0)
	return nil
}

// finish does the work of joinHash.finish for one part of the table.
func (p *joinProbe) finish(part, parts int) (err error) {
	p.remaining, err = p.table.EachInPart(part, parts, func(stored []byte, matched bool) error {
		if !matched {
			p.smallUnmatched++
		}
		switch {
		case p.Kind.Pairs() && !matched && p.writesUnmatched(p.small):
			p.rows++
			if err := p.out.setFields(p.large, nil); err != nil {
				return err
			}
			return p.write(stored)
		case !p.Kind.Pairs() && p.small == p.left && matched == (p.Kind == mergejoin.Semi):
			p.rows++
			return p.out.writeWhole(stored)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.out.flush()
}

func (p *joinProof) add(o *joinProof) {
	p.read.Add(o.read)
	p.joined.Add(o.joined)
	p.remaining.Add(o.remaining)
	p.rows += o.rows
	p.smallUnmatched += o.smallUnmatched
	p.largeUnmatched += o.largeUnmatched
}

// verify checks that all records were joined. records is the number of records read.
func (p *joinProof) verify(records int64) error {
	if p.read.Records != records {
		return fmt.Errorf("%w: %d records were read, but %d were joined", ledger.ErrNotVerified, records, p.read.Records)
	}
	return errors.Join(p.read.Compare(p.joined), p.added.Compare(p.remaining))
}
