package commit

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

// foldFailure describes a failed background fold of a table that no later fold has made good.
type foldFailure struct {
	err   error
	count int       // failures in a row
	retry time.Time // when the next fold may start
}

// foldFailures records which tables could not be folded in the background. A successful fold clears the table's record.
type foldFailures struct {
	mu      sync.Mutex
	byTable map[icecat.TableName]foldFailure
}

// maxFoldPause is the maximum pause before a failed fold is tried again. It must be less than the 15 minutes that the
// alert about failed folds looks back.
const maxFoldPause = 10 * time.Minute

// FoldFailure returns the error of the table's last fold in the background and when the next one may start. The error
// is nil if that fold or a later one succeeded.
func (s *Tables) FoldFailure(n icecat.TableName) (retry time.Time, err error) {
	s.failures.mu.Lock()
	defer s.failures.mu.Unlock()
	f := s.failures.byTable[n]
	return f.retry, f.err
}

// FailedFolds returns the number of tables whose last fold in the background failed.
func (s *Tables) FailedFolds() int {
	s.failures.mu.Lock()
	defer s.failures.mu.Unlock()
	return len(s.failures.byTable)
}

// forgetFailures forgets the failures of tables that are no longer in memory, such as deleted ones.
func (s *Tables) forgetFailures() {
	known := s.InMemory()
	s.failures.mu.Lock()
	defer s.failures.mu.Unlock()
	maps.DeleteFunc(s.failures.byTable, func(n icecat.TableName, _ foldFailure) bool { return !slices.Contains(known, n) })
}

// record records the result of a table's fold. It returns the failure, unless err is nil or ErrNotFound.
func (f *foldFailures) record(n icecat.TableName, err error) foldFailure {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil || errors.Is(err, ErrNotFound) {
		delete(f.byTable, n)
		return foldFailure{}
	}
	last := f.byTable[n]
	last.retry = time.Now().Add(min(time.Second<<min(last.count, 12), maxFoldPause))
	last.err, last.count = err, last.count+1
	if f.byTable == nil {
		f.byTable = map[icecat.TableName]foldFailure{}
	}
	f.byTable[n] = last
	return last
}

// Run starts a goroutine that folds tables until Close is called.
func (s *Tables) Run() { s.worker.Go(s.foldPeriodically) }

// foldPeriodically folds tables whose tail is large or old, one at a time.
func (s *Tables) foldPeriodically() {
	interval := time.Hour
	if s.FoldAge > 0 {
		interval = max(s.FoldAge/4, 10*time.Millisecond)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case e := <-s.folds:
			s.foldInBackground(e)
		case <-tick.C:
			s.ReadTails(s.ctx)
			s.forgetFailures()
			if s.FoldAge > 0 {
				for _, e := range s.olderThan(time.Now().Add(-s.FoldAge)) {
					if s.ctx.Err() != nil {
						return
					}
					s.foldInBackground(&e.folder)
				}
			}
		}
	}
}

// foldInBackground folds a table and logs an error, unless the last fold failed recently. After an error, the rows stay
// in the tail until a later fold.
func (s *Tables) foldInBackground(e *folder) {
	e.mu.Lock()
	e.queued = false
	e.mu.Unlock()
	if retry, _ := s.FoldFailure(e.TableName); time.Now().Before(retry) {
		return
	}
	err := parallel.Catch(func() error {
		_, err := e.Fold(s.ctx)
		return err
	})
	if s.ctx.Err() != nil {
		return
	}
	if f := s.failures.record(e.TableName, err); f.err != nil {
		s.Logger.Error("cannot fold a table: its rows stay in the tail", "bucket", s.BucketOf(e.Namespace), "table", e.Name,
			parallel.LogError(err), "failures", f.count, "retry", f.retry.Format(time.RFC3339))
	}
}
