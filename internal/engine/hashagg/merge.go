package hashagg

import (
	"errors"
	"slices"
)

type merger struct {
	a                  *Aggregator
	sources            []*spillFile
	threads            int           // number of merging goroutines
	partitionsPerGroup int           // number of partitions to merge together
	pending            chan int      // first partition of each group of partitions to merge
	emptyTables        chan *Table   // tables to merge into
	mergedTables       chan *Table   // tables with complete states
	stop               chan struct{} // closed to stop the merge
}

// mergePartitions writes all tables to files and merges the files by partition. It calls handle with
// each merged table until handle returns false.
func (a *Aggregator) mergePartitions(handle func(*Table) bool) error {
	m := &merger{
		a: a, threads: a.Threads, partitionsPerGroup: 1, pending: make(chan int, numPartitions), stop: make(chan struct{}),
		emptyTables: make(chan *Table, a.Threads+1), mergedTables: make(chan *Table, a.Threads+1),
	}
	defer func() {
		for _, s := range m.sources {
			_ = s.close() // ignore the error, because the data was verified and the file is temporary
		}
	}()
	if err := m.spillTables(); err != nil {
		return a.Fail(err)
	}
	done := make(chan struct{}, m.threads)
	for range m.threads {
		a.Tasks.Go(func() {
			if err := m.work(); err != nil {
				_ = a.Fail(err) // stops the other threads and keeps err
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
	for running > 0 || len(m.mergedTables) > 0 {
		select {
		case t := <-m.mergedTables:
			if !handle(t) {
				return nil
			}
			t.reset()
			m.emptyTables <- t // never blocks, because the channel has room for all tables
		case <-done:
			running--
		}
	}
	if a.Ctx.Err() != nil {
		return a.Err()
	}
	return nil
}

// spillTables writes all tables to files, plans the memory and queues the partitions to merge.
func (m *merger) spillTables() error {
	a := m.a
	errs := make([]error, len(a.tables))
	parallelDo(len(a.tables), func(i int) {
		if t := a.tables[i]; t.entryCount > 0 {
			errs[i] = t.emptyTable()
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
	if err := m.planMemory(); err != nil {
		return err
	}
	for i := 0; i < numPartitions; i += m.partitionsPerGroup {
		m.pending <- i
	}
	close(m.pending)
	for len(a.tables) < m.threads+1 {
		t, err := a.newTable()
		if err != nil {
			return err
		}
		a.tables = append(a.tables, t)
	}
	for _, t := range a.tables {
		m.emptyTables <- t
	}
	return nil
}

// planMemory sets partitionsPerGroup, threads and the tables' size. A small read takes a disk about
// as long as a large one, so small partitions are merged together in fewer and larger tables.
func (m *merger) planMemory() error {
	const readSize = 128 << 10 // minimum size of a read in bytes
	const maxPerGroup = 8      // maximum value of partitionsPerGroup
	a, size, runs := m.a, int64(0), int64(1)
	for _, s := range m.sources {
		size += s.file.Size()
		runs += int64(s.runs)
	}
	for m.partitionsPerGroup < maxPerGroup && int64(m.partitionsPerGroup)*size/runs/numPartitions < readSize {
		m.partitionsPerGroup *= 2
	}
	if m.partitionsPerGroup > 1 {
		m.threads = min(max((a.Threads+1)/m.partitionsPerGroup-1, 1), a.Threads)
	}
	a.share = a.Memory / int64(m.threads+1)
	return a.freeTables()
}

func (m *merger) work() error {
	t := m.takeEmpty()
	for i := range m.pending {
		if t == nil {
			return nil
		}
		var err error
		t, err = m.merge(t, m.sources, i, i+m.partitionsPerGroup, 1)
		if err != nil {
			return err
		}
	}
	return nil
}

// takeEmpty returns an empty table, or nil if the merge was stopped.
func (m *merger) takeEmpty() *Table {
	select {
	case t := <-m.emptyTables:
		return t
	case <-m.stop:
	case <-m.a.Ctx.Done():
	}
	return nil
}

// merge merges the partitions from first to end-1 of sources into t and sends t to mergedTables. It
// returns another empty table, or nil if the merge was stopped.
func (m *merger) merge(t *Table, sources []*spillFile, first, end, level int) (*Table, error) {
	t.level = level
	var buf []byte
	for _, s := range sources {
		blocks := slices.Concat(s.blocks[first:end]...)
		slices.Sort(blocks) // in file order
		for len(blocks) > 0 {
			n := 1 // number of consecutive blocks to read together
			for n < len(blocks) && blocks[n] == blocks[0]+n && s.file.Span(blocks[0], n+1) <= bufferSize(m.a.share) {
				n++
			}
			var err error
			buf, err = s.file.Read(buf, blocks[0], n)
			if err != nil {
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
		if t.entryCount == 0 {
			return t, nil
		}
		m.mergedTables <- t // never blocks, because the channel has room for all tables
		return m.takeEmpty(), nil
	}
	return m.repartition(t)
}

// repartition divides a partition that did not fit in t and merges the smaller partitions. It returns
// the same as merge.
func (m *merger) repartition(t *Table) (_ *Table, err error) {
	if t.entryCount > 0 {
		if err := t.emptyTable(); err != nil {
			return nil, err
		}
	}
	s, level := t.spill, t.level
	t.spill = nil
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.file.Finish(); err != nil {
		return nil, err
	}
	for i := range numPartitions {
		if t == nil {
			return nil, nil
		}
		t, err = m.merge(t, []*spillFile{s}, i, i+1, level+1)
		if err != nil {
			return nil, err
		}
	}
	return t, nil
}
