package logstore

import (
	"sync"
	"testing"
	"time"
)

// TestTableTakenDuringTakeBack takes both tables while takeBack runs. takeTable receives a table without Store.mu, so
// takeBack must not wait for a table that it has counted.
func TestTableTakenDuringTakeBack(t *testing.T) {
	var mu sync.Mutex
	ts := &tables{mu: &mu, bytes: 16 << 20, free: make(chan *table, 2)}
	if err := ts.allocate(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			for range 2 { // lend both tables, and fill them, so that takeBack needs time to free their memory
				lent := <-ts.free
				if err := lent.resize(ts.bytes / 2); err != nil {
					t.Error(err)
				}
				for i := 0; i < len(lent.arena); i += pageLen {
					lent.arena[i] = 1
				}
				ts.free <- lent
			}
			var takers sync.WaitGroup
			begin := make(chan struct{})
			for range 2 {
				takers.Go(func() {
					<-begin
					taken := <-ts.free
					mu.Lock()
					ts.put(taken)
					mu.Unlock()
				})
			}
			mu.Lock()
			close(begin)
			ts.takeBack()
			mu.Unlock()
			takers.Wait()
		}
	}()
	select {
	case <-done:
		ts.close()
	case <-time.After(20 * time.Second):
		t.Fatal("takeBack waits for a table that a writer took")
	}
}
