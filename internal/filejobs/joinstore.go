package filejobs

import (
	"context"
	"fmt"
	"sync"

	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/hashjoin"
	"github.com/go-partd/partd/internal/records"
)

// joinStore is where the records of a side are kept: in a table as long as they fit,
// else in a sorter, which then takes what the table has.
type joinStore struct {
	side   *joinSide
	sorter *extsort.Sorter

	mu    sync.RWMutex    // for who changes table; for reading for who adds to it
	table *hashjoin.Table // nil: all goes to the sorter
}

// read reads the side.
func (s *joinStore) read(ctx context.Context, j *job, memory int64) (err error) {
	if s.sorter, err = j.newSorter(ctx, memory*7/16, true); err != nil {
		return err
	}
	j.reading = s.side.job
	if err := s.side.readWith(ctx, s.use); err != nil {
		return err
	}
	kept := s.sorter.Stats().Records
	if s.table != nil {
		kept = s.table.Added().Records
	}
	if n := s.side.job.Tally.Records; n != kept {
		return fmt.Errorf("%d records were read, but %d were kept to be joined", n, kept)
	}
	return nil
}

// use keeps the records of a block.
func (s *joinStore) use(b *records.Block) (err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var sorting *extsort.Writer
	defer func() {
		if sorting != nil {
			err = joinErrors(err, sorting.Close())
		}
	}()
	w := &s.side.workers[b.Worker]
	for b.Next() {
		w.picked, w.key = w.picked[:0], w.key[:0]
		key, ok := s.side.find(w, b)
		if !ok {
			continue
		}
		kept := s.side.keep(w, b.Record, w.picked, b.Fields)
		if s.table != nil {
			fits, err := s.table.Add(b.Worker, key, kept)
			if err != nil {
				return err
			}
			if fits {
				continue
			}
			if err := s.sortInstead(); err != nil {
				return tooLong(b, err)
			}
		}
		if sorting == nil {
			if sorting, err = s.sorter.Writer(); err != nil {
				return err
			}
		}
		if err := sorting.Add(key, kept); err != nil {
			return tooLong(b, err)
		}
	}
	return nil
}

// sortInstead moves what the table has to the sorter, once no other goroutine adds to
// it. The caller has the lock for reading, before and after.
func (s *joinStore) sortInstead() (err error) {
	s.mu.RUnlock()
	defer s.mu.RLock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table == nil {
		return nil // another has done it
	}
	w, err := s.sorter.Writer()
	if err != nil {
		return err
	}
	defer func() { err = joinErrors(err, w.Close()) }()
	if err := s.table.TakeOut(w.Add); err != nil {
		return err
	}
	err = s.table.Close()
	s.table = nil
	return err
}
