package commit

import "time"

// Run starts folding in the background, until Close.
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

// foldInBackground folds a table, and logs an error. After an error, the rows stay in the tail until a later fold.
func (s *Tables) foldInBackground(e *folder) {
	e.mu.Lock()
	e.queued = false
	e.mu.Unlock()
	if _, err := e.Fold(s.ctx); err != nil && s.ctx.Err() == nil {
		s.Logger.Error("cannot fold a table: its rows stay in the tail", "bucket", s.BucketOf(e.Namespace), "table", e.Name, "err", err)
	}
}
