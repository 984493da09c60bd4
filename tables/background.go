package tables

import (
	"context"
	"time"
)

// queue asks for a fold of the entry. Where too many are asked for already, age
// finds it. It wants mu.
func (e *entry) queue() {
	if e.queued {
		return
	}
	select {
	case e.s.folds <- e:
		e.queued = true
	default:
	}
}

// background folds tables whose tail is long or old, one after the other.
func (s *Store) background() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-s.done
		cancel()
	}()
	every := time.Hour
	if s.opts.FoldAge > 0 {
		every = max(s.opts.FoldAge/4, 10*time.Millisecond)
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
			if s.opts.FoldAge > 0 {
				for _, e := range s.aged(time.Now().Add(-s.opts.FoldAge)) {
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
func (s *Store) foldBehind(ctx context.Context, e *entry) {
	e.mu.Lock()
	e.queued = false
	e.mu.Unlock()
	if _, err := e.fold(ctx); err != nil && ctx.Err() == nil {
		s.opts.Logger.Error("a table could not be folded, its rows stay in the tail", "bucket", bucketOf(e.Namespace), "table", e.Name, "err", err)
	}
}

// withTail returns the tables with rows in the tail.
func (s *Store) withTail() []*entry { return s.aged(time.Now().Add(time.Hour)) }

// aged returns the tables with rows in the tail from before a time.
func (s *Store) aged(before time.Time) []*entry {
	var old []*entry
	for _, e := range s.tailed() {
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

// tailed returns the tables that are in memory, which are all with rows in the tail.
func (s *Store) tailed() []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*entry, 0, len(s.entries))
	for _, e := range s.entries {
		all = append(all, e)
	}
	return all
}
