package namespaces

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestFairness checks that an operation gets its store even while other operations constantly use all open stores.
func TestFairness(t *testing.T) {
	s := open(t, t.TempDir(), 2, 0, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var appends atomic.Int64
	for i := range 16 {
		store, release := s.Acquire(fmt.Sprint("greedy", i%2))
		wg.Go(func() {
			defer release()
			for ctx.Err() == nil {
				must.Check(t, store.Append(context.WithoutCancel(ctx), partd.Entry{Key: "k", Value: []byte("v")}))
				appends.Add(1)
			}
		})
	}
	store, release := s.Acquire("modest")
	defer release()
	var longest time.Duration
	for range 20 {
		start := time.Now()
		must.Do(t, store.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}))
		longest = max(longest, time.Since(start))
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	t.Logf("the longest wait was %v; the other goroutines appended %d times", longest, appends.Load())
	if longest > maxWait*3/4 {
		t.Errorf("an append waited for %v, want at most %v", longest, maxWait*3/4)
	}
}

// TestSlowOpening checks that operations on other stores do not wait while a store is being opened.
func TestSlowOpening(t *testing.T) {
	ctx, entry := context.Background(), partd.Entry{Key: "k", Value: []byte("v")}
	opts := open(t, t.TempDir(), 2, 0, nil).opts
	opening, proceed, originalOpen := make(chan struct{}), make(chan struct{}), opts.Open
	opts.Open = func(ctx context.Context, dir string) (partd.Partd, error) {
		if filepath.Base(dir) == "slow" {
			close(opening)
			<-proceed
		}
		return originalOpen(ctx, dir)
	}
	s := must.Get(New(t.TempDir(), opts))(t)
	var readers []func() error
	for _, name := range []string{"a", "b"} {
		store, release := s.Acquire(name)
		defer release()
		must.Do(t, store.Append(ctx, entry))
		r := must.Get(partd.Open(ctx, store, "k"))(t)
		readers = append(readers, r.Close)
	}
	slow, slowDone := s.Acquire("slow")
	defer slowDone()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { must.Check(t, slow.Append(ctx, entry)) })
	}
	time.Sleep(2 * minOpenTime) // the other stores have been open for long enough to be closed
	for _, closeReader := range readers {
		must.Do(t, closeReader())
	}
	must.Receive(t, opening, time.Minute, "the opening of the slow store")
	short, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, name := range []string{"b", "c", "b"} {
		store, release := s.Acquire(name)
		if err := store.Append(short, entry); err != nil {
			t.Errorf("Append to %s while another store is being opened: %v", name, err)
		}
		release()
	}
	close(proceed)
	wg.Wait()
	must.Do(t, s.Close(ctx))
}

// TestOpenedWhileClosing checks that Close closes a store that was being opened.
func TestOpenedWhileClosing(t *testing.T) {
	opening, proceed := make(chan struct{}), make(chan struct{})
	s := must.Get(New(t.TempDir(), Options{MaxOpen: 1, Logger: slog.New(slog.DiscardHandler), Open: func(context.Context, string) (partd.Partd, error) {
		close(opening)
		<-proceed
		return partd.NewDict(), nil
	}}))(t)
	store, release := s.Acquire("a")
	defer release()
	failed := make(chan error)
	go func() { failed <- store.Append(context.Background(), partd.Entry{Key: "k", Value: []byte("v")}) }()
	<-opening
	time.AfterFunc(100*time.Millisecond, func() { close(proceed) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must.Do(t, s.Close(ctx))
	must.Fail(t, <-failed, partd.ErrClosed, "Append")
}
