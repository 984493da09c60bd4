package hashagg

import (
	"errors"
	"fmt"
)

// divider merges divisions of what tables have written out.
type divider struct {
	a       *Aggregator
	sources []*spill
	threads int           // that merge
	grain   int           // divisions that are merged together
	todo    chan int      // the first of these
	empty   chan *Table   // to merge into
	full    chan *Table   // to be used
	stop    chan struct{} // closed when no more is wanted
}

// divide writes all tables out, and calls use with a table for each division, or
// several, until use returns false.
func (a *Aggregator) divide(use func(*Table) bool) error {
	d := &divider{
		a: a, threads: a.opts.Threads, grain: 1, todo: make(chan int, divisions), stop: make(chan struct{}),
		empty: make(chan *Table, a.opts.Threads+1), full: make(chan *Table, a.opts.Threads+1),
	}
	defer d.end()
	if err := d.prepare(); err != nil {
		return a.fail(err)
	}
	left := make(chan struct{}, d.threads)
	for range d.threads {
		a.tasks.Go(func() {
			if err := d.work(); err != nil {
				_ = a.fail(err)
			}
			left <- struct{}{}
		})
	}
	running := d.threads
	defer func() {
		close(d.stop)
		for ; running > 0; running-- {
			<-left
		}
	}()
	for running > 0 || len(d.full) > 0 {
		select {
		case t := <-d.full:
			if !use(t) {
				return nil
			}
			t.reset()
			d.empty <- t // has room for all there are
		case <-left:
			running--
		}
	}
	if a.ctx.Err() != nil {
		return a.why()
	}
	return nil
}

// prepare writes all tables out and takes their files over.
func (d *divider) prepare() error {
	a := d.a
	for _, t := range a.tables {
		if t.n > 0 {
			if err := t.writeOut(); err != nil {
				return err
			}
		}
		if t.spill != nil {
			t.spill.buf = nil
			d.sources = append(d.sources, t.spill)
			t.spill = nil
		}
	}
	if err := d.coarsen(); err != nil {
		return err
	}
	for i := 0; i < divisions; i += d.grain {
		d.todo <- i
	}
	close(d.todo)
	for len(a.tables) < d.threads+1 {
		t, err := a.newTable()
		if err != nil {
			return err
		}
		a.tables = append(a.tables, t)
	}
	for _, t := range a.tables {
		d.empty <- t
	}
	return nil
}

// coarsen merges several divisions together where little of one is in one place
// of a file, as a disk takes as long for a small read as for a large one. The
// tables are fewer and larger then.
func (d *divider) coarsen() error {
	const wanted = 128 << 10 // bytes of a read
	const most = 8           // so that each level divides by 8 at least
	a, size, runs := d.a, int64(0), int64(1)
	for _, s := range d.sources {
		size += s.size
		runs += int64(s.runs)
	}
	for d.grain < most && int64(d.grain)*size/runs/divisions < wanted {
		d.grain *= 2
	}
	threads := max((a.opts.Threads+1)/d.grain-1, 1)
	if d.grain == 1 || threads >= a.opts.Threads {
		return nil
	}
	d.threads = threads
	var errs []error
	for _, t := range a.tables {
		errs = append(errs, t.free())
	}
	a.tables, a.idle = nil, nil
	a.share = a.opts.Memory / int64(threads+1)
	return errors.Join(errs...)
}

func (d *divider) end() {
	for _, s := range d.sources {
		// What was read from it was checked, and it has no name.
		_ = s.close()
	}
}

// work merges divisions until none is left.
func (d *divider) work() error {
	t := d.take()
	for i := range d.todo {
		if t == nil {
			return nil
		}
		var err error
		if t, err = d.merge(t, d.sources, i, i+d.grain, 1); err != nil {
			return err
		}
	}
	return nil
}

// take returns an empty table, or nil when no more is wanted.
func (d *divider) take() *Table {
	select {
	case t := <-d.empty:
		return t
	case <-d.stop:
	case <-d.a.ctx.Done():
	}
	return nil
}

// merge merges divisions of a level less by one in a table, hands that over, and returns another one
// like take.
func (d *divider) merge(t *Table, sources []*spill, from, to, level int) (*Table, error) {
	t.level = level
	var buf []byte
	var err error
	for _, s := range sources {
		n := 0
		for chunks := s.chunksOf(from, to); len(chunks) > 0; chunks = chunks[n:] {
			if buf, n, err = s.read(buf, chunks, bufferSize(d.a.share)); err != nil {
				return nil, err
			}
			if err := t.mergeChunk(buf); err != nil {
				return nil, err
			}
			select {
			case <-d.stop:
				return nil, nil
			case <-d.a.ctx.Done():
				return nil, d.a.why()
			default:
			}
		}
	}
	if t.spill == nil {
		if t.n == 0 {
			return t, nil
		}
		d.full <- t // has room for all there are
		return d.take(), nil
	}
	return d.again(t)
}

// again divides a division further that did not fit into a table.
func (d *divider) again(t *Table) (_ *Table, err error) {
	if t.n > 0 {
		if err := t.writeOut(); err != nil {
			return nil, err
		}
	}
	s, level := t.spill, t.level
	t.spill = nil
	defer func() {
		if cerr := s.close(); cerr != nil && err == nil {
			err = fmt.Errorf("closing a file of states: %w", cerr)
		}
	}()
	s.buf = nil
	for i := range divisions {
		if t == nil {
			return nil, nil
		}
		if t, err = d.merge(t, []*spill{s}, i, i+1, level+1); err != nil {
			return nil, err
		}
	}
	return t, nil
}
