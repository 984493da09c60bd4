package commit

import (
	"context"
	"maps"
	"slices"
	"time"
)

// queue asks for a fold of the entry. Where too many are asked for already, age
// finds it. It wants mu.
func (e *Entry) queue() {
	if e.queued {
		return
	}
	select {
	case e.of.folds <- e:
		e.queued = true
	default:
	}
}

// Run folds in the background, until Close.
func (s *Tables) Run() { s.worker.Go(s.background) }

// background folds tables whose tail is long or old, one after the other.
func (s *Tables) background() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-s.done
		cancel()
	}()
	every := time.Hour
	if s.FoldAge > 0 {
		every = max(s.FoldAge/4, 10*time.Millisecond)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return
		case e := <-s.folds:
			s.foldBehind(ctx, e)
		case <-tick.C:
			if s.FoldAge > 0 {
				for _, e := range s.aged(time.Now().Add(-s.FoldAge)) {
					if ctx.Err() != nil {
						return
					}
					s.foldBehind(ctx, e)
				}
			}
		}
	}
}

// foldBehind folds a table. An error is no one's but the log's: the rows stay in
// the tail, and the next round tries again.
func (s *Tables) foldBehind(ctx context.Context, e *Entry) {
	e.mu.Lock()
	e.queued = false
	e.mu.Unlock()
	if _, err := e.Fold(ctx); err != nil && ctx.Err() == nil {
		s.Logger.Error("a table could not be folded, its rows stay in the tail", "bucket", s.BucketOf(e.Namespace), "table", e.Name, "err", err)
	}
}

// aged returns the tables with rows in the tail from before a time.
func (s *Tables) aged(before time.Time) (old []*Entry) {
	for _, e := range s.inMemory() {
		e.mu.Lock()
		if e.log != nil {
			rows, _, since, _ := e.log.Size(e.state.folded)
			if rows > 0 && since.Before(before) {
				old = append(old, e)
			}
		} else if e.waits() { // until the table is repaired
			old = append(old, e)
		}
		e.mu.Unlock()
	}
	return old
}

// inMemory returns the tables that are in memory.
func (s *Tables) inMemory() []*Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.entries))
}
