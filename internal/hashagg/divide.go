package hashagg

import "fmt"

// divider merges divisions of what tables have written out.
type divider struct {
	a       *Aggregator
	sources []*spill
	todo    chan int      // divisions
	empty   chan *Table   // to merge into
	full    chan *Table   // to be used
	stop    chan struct{} // closed when no more is wanted
}

// divide writes all tables out, and calls use with a table for each division, or
// several, until use returns false.
func (a *Aggregator) divide(use func(*Table) bool) error {
	d := &divider{
		a: a, todo: make(chan int, divisions), stop: make(chan struct{}),
		empty: make(chan *Table, a.opts.Threads+1), full: make(chan *Table, a.opts.Threads+1),
	}
	defer d.end()
	if err := d.prepare(); err != nil {
		return a.fail(err)
	}
	left := make(chan struct{}, a.opts.Threads)
	for range a.opts.Threads {
		a.tasks.Go(func() {
			if err := d.work(); err != nil {
				_ = a.fail(err)
			}
			left <- struct{}{}
		})
	}
	running := a.opts.Threads
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
	for i := range divisions {
		d.todo <- i
	}
	close(d.todo)
	for _, t := range a.tables {
		if t.n > 0 {
			if err := t.writeOut(); err != nil {
				return err
			}
		}
		if t.spill != nil {
			t.spill.buffers = [divisions][]byte{}
			d.sources = append(d.sources, t.spill)
			t.spill = nil
		}
	}
	for len(a.tables) < a.opts.Threads+1 {
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
		if t, err = d.merge(t, d.sources, i, 1); err != nil {
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

// merge merges a division of a level less by one in a table, hands that over, and returns another one
// like take.
func (d *divider) merge(t *Table, sources []*spill, number, level int) (*Table, error) {
	t.level = level
	var buf []byte
	var err error
	for _, s := range sources {
		for _, c := range s.chunks[number] {
			if buf, err = s.read(buf, c); err != nil {
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
	s.buffers = [divisions][]byte{}
	for i := range divisions {
		if t == nil {
			return nil, nil
		}
		if t, err = d.merge(t, []*spill{s}, i, level+1); err != nil {
			return nil, err
		}
	}
	return t, nil
}
