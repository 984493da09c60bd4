package filejobs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/hashjoin"
	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/mergejoin"
	"github.com/go-partd/partd/internal/records"
)

// joinHash joins a side that is in a table with the other side, whose records are joined as they
// are read.
type joinHash struct {
	*joinEngine
	table        *hashjoin.Table
	small, large *joinSide
	batchSize    int // maximum records of a batch

	mu    sync.Mutex
	begun atomic.Bool // the output has begun; the columns of both sides are known
}

// joinProbe holds the state of one goroutine that joins.
type joinProbe struct {
	*joinHash
	joinProof
	finder        hashjoin.Finder
	worker        *joinWorker
	out           *joinWriter
	write         func(stored []byte) error // writes a row of the current record and a record of the table, or nil
	keys, records [][]byte                  // the current batch
}

// joinProof has the counts that are compared at the end.
type joinProof struct {
	in, joined             ledger.Count // records when they were read, and when they were joined
	added, kept            ledger.Count // records of the table when they were added, and at the end
	rows                   int64        // number of rows to write
	smallAlone, largeAlone int64        // records without a partner
}

func (e *joinEngine) hash(ctx context.Context, j *job, small *joinStore) error {
	h := &joinHash{joinEngine: e, table: small.table, small: small.side, large: e.otherSide(small.side), batchSize: hashjoin.BatchSize}
	h.begun.Store(!e.left.lateColumns && !e.right.lateColumns)
	if h.large.splitsAll {
		h.batchSize = 1 // all fields of a record are valid only until the next record
	}
	if err := h.table.Index(); err != nil {
		return err
	}
	var probes []*joinProbe
	for i := range j.Threads {
		p := &joinProbe{joinHash: h, finder: hashjoin.Finder{Table: h.table}, worker: &h.large.workers[i], out: e.out.newWriter(ctx, i)}
		p.write = func(rec []byte) error {
			if err := p.out.set(p.small, rec); err != nil {
				return err
			}
			return p.out.writeRow()
		}
		probes = append(probes, p)
	}
	j.reading = h.large.job
	if err := h.large.readWith(ctx, func(b *records.Block) error { return probes[b.Worker].use(b) }); err != nil {
		return err
	}
	if !h.begun.Load() { // there were no records
		if err := e.begin(); err != nil {
			return err
		}
	}
	return h.finish(j, probes)
}

func (p *joinProbe) use(b *records.Block) error {
	for b.Next() {
		if !p.begun.Load() {
			if err := p.first(b); err != nil {
				return err
			}
		}
		key, ok := p.large.find(p.worker, b)
		if !ok {
			continue
		}
		p.in.AddRecord(b.Record)
		p.keys, p.records = append(p.keys, key), append(p.records, b.Record)
		if len(p.keys) == p.batchSize {
			if err := p.join(b.Fields); err != nil {
				return err
			}
		}
	}
	return p.join(nil) // before the block is reused
}

// first begins the output. The first record has the columns.
func (p *joinProbe) first(b *records.Block) error {
	if err := b.Turn(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun.Load() {
		return nil
	}
	tally := &p.large.job.Tally
	tally.First, tally.Records = bytes.Clone(b.Record), 1
	if err := p.begin(); err != nil {
		return err // no other goroutine may write: the output has no columns
	}
	p.begun.Store(true)
	return nil
}

// join joins the records of the batch. If they are known, fields has the fields of its only
// record.
func (p *joinProbe) join(fields [][]byte) error {
	n := len(p.large.fields)
	for i, position := range p.finder.Find(p.keys) {
		if len(p.keys[i]) == 0 && !p.MatchEmpty {
			position = 0
		}
		p.joined.AddRecord(p.records[i])
		if err := p.joinRecord(position, p.records[i], p.worker.picked[i*n:(i+1)*n], fields); err != nil {
			return err
		}
	}
	p.keys, p.records = p.keys[:0], p.records[:0]
	p.worker.picked, p.worker.key = p.worker.picked[:0], p.worker.key[:0]
	return nil
}

// joinRecord joins a record with the records of the table that begin at position, or with none if it is 0.
func (p *joinProbe) joinRecord(position int, record []byte, picked, fields [][]byte) error {
	partners := 0
	if position != 0 {
		partners = p.table.MarkFound(position)
	} else {
		p.largeAlone++
		if p.writesAlone(p.large) {
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
	if err := p.out.set(p.large, p.large.storedForm(p.worker, record, picked, fields)); err != nil {
		return err
	}
	if position == 0 {
		return p.write(nil)
	}
	return p.table.Each(position, p.write)
}

// writesAlone reports whether records of a side without a partner are rows.
func (e *joinEngine) writesAlone(s *joinSide) bool {
	return s.right && e.Kind.RightUnmatched() || !s.right && e.Kind.LeftUnmatched()
}

// finish writes the records of the table that have no partner. For semi and anti joins, it writes
// the records of the left side if that is in the table.
func (h *joinHash) finish(j *job, probes []*joinProbe) error {
	errs := make([]error, len(probes))
	var tasks sync.WaitGroup
	for i, p := range probes {
		tasks.Go(func() {
			if errs[i] = p.finish(i, len(probes)); errs[i] != nil {
				j.cancel(canceled.Failure(errs[i]))
			}
		})
	}
	tasks.Wait()
	if err := cmp.Or(errs...); err != nil {
		return err
	}
	all := joinProof{added: h.table.Added()}
	var writers []*joinWriter
	for _, p := range probes {
		all.add(&p.joinProof)
		writers = append(writers, p.out)
	}
	if err := cmp.Or(all.verify(h.large.job.Tally.Records), h.out.proveRows(all.rows, writers...)); err != nil {
		return err
	}
	stats := mergejoin.Stats{Rows: all.rows, LeftUnmatched: all.largeAlone, RightUnmatched: all.smallAlone}
	sums, name := [2]ledger.Sum128{all.in.Sum, all.added.Sum}, "right"
	if h.small == h.left {
		stats.LeftUnmatched, stats.RightUnmatched = stats.RightUnmatched, stats.LeftUnmatched
		sums[0], sums[1], name = sums[1], sums[0], "left"
	}
	h.report(j, stats, sums, Line{"engine", "engine", "hash; the " + name + " file was in memory", "hash"}, 0, 0)
	return nil
}

// finish is joinHash.finish for a part of the table.
func (p *joinProbe) finish(part, parts int) (err error) {
	p.kept, err = p.table.EachInPart(part, parts, func(stored []byte, matched bool) error {
		if !matched {
			p.smallAlone++
		}
		switch {
		case p.Kind.Pairs() && !matched && p.writesAlone(p.small):
			p.rows++
			if err := p.out.set(p.large, nil); err != nil {
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
	p.in.Add(o.in)
	p.joined.Add(o.joined)
	p.kept.Add(o.kept)
	p.rows += o.rows
	p.smallAlone += o.smallAlone
	p.largeAlone += o.largeAlone
}

// verify compares the joined records with the records read.
func (p *joinProof) verify(read int64) error {
	if p.in.Records != read {
		return fmt.Errorf("%w: %d records were read, but %d were joined", ledger.ErrNotVerified, read, p.in.Records)
	}
	return errors.Join(p.in.Compare(p.joined), p.added.Compare(p.kept))
}
