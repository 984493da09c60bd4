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

// joinHash is a join of a side that is in a table with the other one, of which each
// record is joined as it is read.
type joinHash struct {
	*joinEngine
	table        *hashjoin.Table
	small, large *joinSide
	ahead        int // records of a batch

	mu    sync.Mutex
	begun atomic.Bool // the output, as the columns of both sides are known
}

// joinProbe is what one goroutine joins with.
type joinProbe struct {
	*joinHash
	joinProof
	finder        hashjoin.Finder
	worker        *joinWorker
	out           *joinWriter
	write         func(kept []byte) error // a row, of the record at hand and one of the table; nil is none
	keys, records [][]byte                // of a batch
}

// joinProof is what is compared in the end.
type joinProof struct {
	in, joined             ledger.Count // the records as they were read, and when they were joined
	added, kept            ledger.Count // those of the table as they were added, and in the end
	rows                   int64        // that are to be written
	smallAlone, largeAlone int64        // records without a partner
}

func (e *joinEngine) hash(ctx context.Context, j *job, small *joinStore) error {
	h := &joinHash{joinEngine: e, table: small.table, small: small.side, large: e.other(small.side), ahead: hashjoin.Ahead}
	h.begun.Store(!e.left.late && !e.right.late)
	if h.large.all {
		h.ahead = 1 // all fields of a record are there until those of the next one are found
	}
	if err := h.table.Index(); err != nil {
		return err
	}
	var probes []*joinProbe
	for i := range j.Threads {
		p := &joinProbe{joinHash: h, finder: hashjoin.Finder{Table: h.table}, worker: &h.large.workers[i], out: e.out.writer(ctx, i)}
		p.write = func(kept []byte) error {
			if err := p.out.set(p.small, kept); err != nil {
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
	if !h.begun.Load() { // there was no record
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
		if len(p.keys) == p.ahead {
			if err := p.join(b.Fields); err != nil {
				return err
			}
		}
	}
	return p.join(nil) // before the block goes
}

// first begins the output, with the columns of the first record.
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
	defer p.begun.Store(true)
	return p.begin()
}

// join joins the records of the batch. All are the fields of its only record, where
// they were found.
func (p *joinProbe) join(all [][]byte) error {
	n := len(p.large.fields)
	for i, place := range p.finder.Find(p.keys) {
		if len(p.keys[i]) == 0 && !p.MatchEmpty {
			place = 0
		}
		p.joined.AddRecord(p.records[i])
		if err := p.joinRecord(place, p.records[i], p.worker.picked[i*n:(i+1)*n], all); err != nil {
			return err
		}
	}
	p.keys, p.records = p.keys[:0], p.records[:0]
	p.worker.picked, p.worker.key = p.worker.picked[:0], p.worker.key[:0]
	return nil
}

// joinRecord joins a record with those in the table that begin at a place, 0 for none.
func (p *joinProbe) joinRecord(place int, record []byte, picked, all [][]byte) error {
	partners := 0
	if place != 0 {
		partners = p.table.Found(place)
	} else {
		p.largeAlone++
		if p.writesAlone(p.large) {
			partners = 1
		}
	}
	switch {
	case !p.How.Pairs() && p.large == p.left && (place != 0) == (p.How == mergejoin.Semi):
		p.rows++
		return p.out.writeWhole(record)
	case !p.How.Pairs() || partners == 0:
		return nil
	}
	p.rows += int64(partners)
	if err := p.out.set(p.large, p.large.keep(p.worker, record, picked, all)); err != nil {
		return err
	}
	if place == 0 {
		return p.write(nil)
	}
	return p.table.Each(place, p.write)
}

// writesAlone reports whether records of a side are written without a partner.
func (e *joinEngine) writesAlone(s *joinSide) bool {
	return s.right && e.How.RightAlone() || !s.right && e.How.LeftAlone()
}

// finish writes the records of the table that have no partner, and those of semi and
// anti where the left side is in it.
func (h *joinHash) finish(j *job, probes []*joinProbe) error {
	errs := make([]error, len(probes))
	var tasks sync.WaitGroup
	for i, p := range probes {
		tasks.Go(func() {
			if errs[i] = p.finish(i, len(probes)); errs[i] != nil {
				j.cancel(canceled.Because(errs[i]))
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
	if err := cmp.Or(all.prove(h.large.job.Tally.Records), h.out.proveRows(all.rows, writers...)); err != nil {
		return err
	}
	stats := mergejoin.Stats{Rows: all.rows, LeftAlone: all.largeAlone, RightOnly: all.smallAlone}
	sums, name := [2]ledger.Sum128{all.in.Sum, all.added.Sum}, "right"
	if h.small == h.left {
		stats.LeftAlone, stats.RightOnly = stats.RightOnly, stats.LeftAlone
		sums[0], sums[1], name = sums[1], sums[0], "left"
	}
	h.report(j, stats, sums, Line{"engine", "engine", "hash; the " + name + " file was in memory", "hash"}, 0, 0)
	return nil
}

// finish does so with a part of the table.
func (p *joinProbe) finish(part, parts int) (err error) {
	p.kept, err = p.table.All(part, parts, func(kept []byte, found bool) error {
		if !found {
			p.smallAlone++
		}
		switch {
		case p.How.Pairs() && !found && p.writesAlone(p.small):
			p.rows++
			if err := p.out.set(p.large, nil); err != nil {
				return err
			}
			return p.write(kept)
		case !p.How.Pairs() && p.small == p.left && found == (p.How == mergejoin.Semi):
			p.rows++
			return p.out.writeWhole(kept)
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

// prove compares the records of both sides with those that were read.
func (p *joinProof) prove(read int64) error {
	if p.in.Records != read {
		return fmt.Errorf("%w: %d records were read, but %d looked for partners", ledger.ErrNotVerified, read, p.in.Records)
	}
	return errors.Join(p.in.Compare(p.joined), p.added.Compare(p.kept))
}
