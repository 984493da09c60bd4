package logstore

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/canceled"
)

// TestTableTakenDuringTakeBack takes and returns tables while takeBack runs. takeTable receives a
// table without Store.mu, so takeBack must not wait for a table that it has counted.
func TestTableTakenDuringTakeBack(t *testing.T) {
	var mu sync.Mutex
	ts := &tables{mu: &mu, bytes: 64 << 10, free: make(chan *table, 2)}
	if err := ts.allocate(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var takers sync.WaitGroup
	for range 4 {
		takers.Go(func() {
			for ctx.Err() == nil {
				runtime.Gosched() // so that takeBack often finds both tables unused
				taken, err := canceled.Receive(ctx, ts.free)
				if err != nil {
					return
				}
				mu.Lock()
				ts.put(taken)
				mu.Unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer takers.Wait()
		defer cancel()
		for range 20_000 {
			mu.Lock()
			ts.lend(0)
			ts.takeBack()
			mu.Unlock()
			runtime.Gosched()
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("takeBack waits for a table that a writer took")
	}
	ts.close()
}
