package namespaces

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
)

// TestTurns lets who needs a store get one, while others use all that may be open
// without a pause.
func TestTurns(t *testing.T) {
	s := open(t, t.TempDir(), 2, 0, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var busy atomic.Int64
	for i := range 16 {
		store, done := s.Use(fmt.Sprint("greedy", i%2))
		wg.Go(func() {
			defer done()
			for ctx.Err() == nil {
				if err := store.Append(context.WithoutCancel(ctx), partd.Entry{Key: "k", Value: []byte("v")}); err != nil {
					t.Error(err)
				}
				busy.Add(1)
			}
		})
	}
	store, done := s.Use("modest")
	defer done()
	var longest time.Duration
	for range 20 {
		begun := time.Now()
		must(t, store.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}))
		longest = max(longest, time.Since(begun))
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	t.Logf("the longest wait was %v, the others appended %d times", longest, busy.Load())
	if longest > 5*time.Second {
		t.Errorf("it waits %v", longest)
	}
}

// TestSlowOpening holds up who waits for the store that takes long to be opened, and
// nobody else.
func TestSlowOpening(t *testing.T) {
	ctx, one := context.Background(), partd.Entry{Key: "k", Value: []byte("v")}
	opts := open(t, t.TempDir(), 2, 0, nil).opts
	goOn, quick := make(chan struct{}), opts.Open
	opts.Open = func(ctx context.Context, dir string) (partd.Partd, error) {
		if filepath.Base(dir) == "slow" {
			<-goOn
		}
		return quick(ctx, dir)
	}
	s, err := New(t.TempDir(), opts)
	must(t, err)
	var readers []func() error
	for _, name := range []string{"a", "b"} {
		store, done := s.Use(name)
		defer done()
		must(t, store.Append(ctx, one))
		r, err := partd.Open(ctx, store, "k")
		must(t, err)
		readers = append(readers, r.Close)
	}
	slow, slowDone := s.Use("slow")
	defer slowDone()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if err := slow.Append(ctx, one); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(2 * tenure) // both wait, and the other stores had their time
	for _, end := range readers {
		must(t, end())
	}
	time.Sleep(tenure)
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, name := range []string{"b", "c", "b"} {
		store, done := s.Use(name)
		if err := store.Append(short, one); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		done()
	}
	close(goOn)
	wg.Wait()
	must(t, s.Close(ctx))
}

// TestOpenedWhileClosing closes what was being opened when all is closed.
func TestOpenedWhileClosing(t *testing.T) {
	opening, goOn := make(chan struct{}), make(chan struct{})
	s, err := New(t.TempDir(), Options{MaxOpen: 1, Logger: slog.New(slog.DiscardHandler), Open: func(context.Context, string) (partd.Partd, error) {
		close(opening)
		<-goOn
		return partd.NewDict(), nil
	}})
	must(t, err)
	store, done := s.Use("a")
	defer done()
	failed := make(chan error)
	go func() { failed <- store.Append(context.Background(), partd.Entry{Key: "k", Value: []byte("v")}) }()
	<-opening
	time.AfterFunc(100*time.Millisecond, func() { close(goOn) })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	must(t, s.Close(ctx))
	if err := <-failed; !errors.Is(err, partd.ErrClosed) {
		t.Error(err)
	}
}
