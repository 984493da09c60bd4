package hashagg

import (
	"errors"
	"slices"
)

// merger merges partitions of the files that tables have written.
type merger struct {
	a       *Aggregator
	sources []*spilled
	threads int           // merging goroutines
	grain   int           // partitions that are merged together
	todo    chan int      // the first partition of each group of grain
	empty   chan *Table   // tables to merge into
	full    chan *Table   // tables with merged groups
	stop    chan struct{} // closed to stop the merge
}

// mergePartitions writes all tables to files, and calls use with a table for each partition
// or several partitions, until use returns false.
func (a *Aggregator) mergePartitions(use func(*Table) bool) error {
	m := &merger{
		a: a, threads: a.Threads, grain: 1, todo: make(chan int, partitions), stop: make(chan struct{}),
		empty: make(chan *Table, a.Threads+1), full: make(chan *Table, a.Threads+1),
	}
	defer func() {
		for _, s := range m.sources {
			_ = s.close() // ignore the error: the data read was checked, and the file has no name
		}
	}()
	if err := m.prepare(); err != nil {
		return a.Fail(err)
	}
	done := make(chan struct{}, m.threads)
	for range m.threads {
		a.Tasks.Go(func() {
			if err := m.work(); err != nil {
				_ = a.Fail(err)
			}
			done <- struct{}{}
		})
	}
	running := m.threads
	defer func() {
		close(m.stop)
		for ; running > 0; running-- {
			<-done
		}
	}()
	for running > 0 || len(m.full) > 0 {
		select {
		case t := <-m.full:
			if !use(t) {
				return nil
			}
			t.reset()
			m.empty <- t // has room for all tables
		case <-done:
			running--
		}
	}
	if a.Ctx.Err() != nil {
		return a.Err()
	}
	return nil
}

// prepare writes all tables to files and takes over the files.
func (m *merger) prepare() error {
	a := m.a
	errs := make([]error, len(a.tables))
	parallelDo(len(a.tables), func(i int) {
		if t := a.tables[i]; t.n > 0 {
			errs[i] = t.writeOut()
		}
	})
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, t := range a.tables {
		if t.spill != nil {
			if err := t.spill.file.Finish(); err != nil {
				return err
			}
			m.sources = append(m.sources, t.spill)
			t.spill = nil
		}
	}
	if err := m.coarsen(); err != nil {
		return err
	}
	for i := 0; i < partitions; i += m.grain {
		m.todo <- i
	}
	close(m.todo)
	for len(a.tables) < m.threads+1 {
		t, err := a.newTable()
		if err != nil {
			return err
		}
		a.tables = append(a.tables, t)
	}
	for _, t := range a.tables {
		m.empty <- t
	}
	return nil
}

// coarsen merges several partitions together if each read from a file would be small,
// because a disk needs as long for a small read as for a large one. Then fewer, larger
// tables are used. Otherwise there is one more table than before, and tables are smaller.
func (m *merger) coarsen() error {
	const readSize = 128 << 10 // bytes of a read
	const maxGrain = 8         // so that each level has at least 8 partitions
	a, size, runs := m.a, int64(0), int64(1)
	for _, s := range m.sources {
		size += s.file.Size()
		runs += int64(s.runs)
	}
	for m.grain < maxGrain && int64(m.grain)*size/runs/partitions < readSize {
		m.grain *= 2
	}
	if m.grain > 1 {
		m.threads = min(max((a.Threads+1)/m.grain-1, 1), a.Threads)
	}
	a.share = a.Memory / int64(m.threads+1)
	return a.freeTables()
}

func (m *merger) work() error {
	t := m.takeEmpty()
	for i := range m.todo {
		if t == nil {
			return nil
		}
		var err error
		if t, err = m.merge(t, m.sources, i, i+m.grain, 1); err != nil {
			return err
		}
	}
	return nil
}

// takeEmpty returns an empty table, or nil if the merge was stopped.
func (m *merger) takeEmpty() *Table {
	select {
	case t := <-m.empty:
		return t
	case <-m.stop:
	case <-m.a.Ctx.Done():
	}
	return nil
}

// merge merges partitions of the previous level in a table, passes the table to the
// consumer, and returns another empty one, or nil if the merge was stopped.
func (m *merger) merge(t *Table, sources []*spilled, from, to, level int) (*Table, error) {
	t.level = level
	var buf []byte
	for _, s := range sources {
		blocks := slices.Concat(s.blocks[from:to]...)
		slices.Sort(blocks) // the order of the file
		for len(blocks) > 0 {
			n := 1 // consecutive blocks are read together
			for n < len(blocks) && blocks[n] == blocks[0]+n && s.file.Span(blocks[0], n+1) <= bufferSize(m.a.share) {
				n++
			}
			var err error
			if buf, err = s.file.Read(buf, blocks[0], n); err != nil {
				return nil, err
			}
			blocks = blocks[n:]
			if err := t.mergeBlock(buf); err != nil {
				return nil, err
			}
			select {
			case <-m.stop:
				return nil, nil
			case <-m.a.Ctx.Done():
				return nil, m.a.Err()
			default:
			}
		}
	}
	if t.spill == nil {
		if t.n == 0 {
			return t, nil
		}
		m.full <- t // has room for all tables
		return m.takeEmpty(), nil
	}
	return m.repartition(t)
}

// repartition divides a partition that did not fit in a table.
func (m *merger) repartition(t *Table) (_ *Table, err error) {
	if t.n > 0 {
		if err := t.writeOut(); err != nil {
			return nil, err
		}
	}
	s, level := t.spill, t.level
	t.spill = nil
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.file.Finish(); err != nil {
		return nil, err
	}
	for i := range partitions {
		if t == nil {
			return nil, nil
		}
		if t, err = m.merge(t, []*spilled{s}, i, i+1, level+1); err != nil {
			return nil, err
		}
	}
	return t, nil
}
