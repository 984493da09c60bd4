package shuffle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
)

func TestWaitCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &countingStore{Dict: partd.NewDict()}
		completeTask := func(task string) {
			w := mustBegin(t, store, task, "1")
			mustAppend(t, w, "k", task)
			mustCommit(t, w)
		}
		completeTask("a")
		if err := AddTasks(t.Context(), store, "a", "b"); err != nil {
			t.Fatal(err)
		}
		var missing *MissingError
		start := time.Now()
		store.gets.Store(0)
		_, err := WaitCommitted(t.Context(), store, &WaitOptions{Timeout: time.Minute})
		if !errors.As(err, &missing) || !slices.Equal(missing.Missing, []string{"b"}) || !missing.Open || missing.Committed != 1 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("WaitCommitted() error = %v, want a MissingError for task b", err)
		}
		if elapsed := time.Since(start); elapsed != time.Minute || store.gets.Load() > 70 {
			t.Errorf("WaitCommitted() took %v with %d reads, want one minute with at most 70 reads", elapsed, store.gets.Load())
		}
		if _, err := WaitCommitted(t.Context(), store, &WaitOptions{Count: 3, Timeout: time.Second}); !errors.As(err, &missing) || missing.Expected != 3 {
			t.Errorf("WaitCommitted() for 3 tasks: error = %v, want a MissingError", err)
		}
		go func() {
			time.Sleep(time.Second)
			completeTask("b")
			time.Sleep(time.Second)
			_ = AddTasks(t.Context(), store, "c")
			_ = CloseTasks(t.Context(), store)
			time.Sleep(time.Hour)
			completeTask("c")
		}()
		start = time.Now()
		c, err := WaitCommitted(t.Context(), store, nil)
		if err != nil || len(c.Commits()) != 3 {
			t.Fatal(err)
		}
		if elapsed := time.Since(start) - time.Hour; elapsed < 2*time.Second || elapsed > 4*time.Second {
			t.Errorf("WaitCommitted() returned %v after the hour, want 2 s to 4 s", elapsed)
		}
		if got, err := collectPieces(c.Scan(t.Context())); err != nil || got["k"] != "a;b;c;" {
			t.Errorf("read %q with error %v, want %q", got, err, "a;b;c;")
		}
		if err := AddTasks(t.Context(), store, "b", "late"); !errors.Is(err, ErrTasksClosed) || !strings.Contains(err.Error(), "late") {
			t.Errorf("AddTasks() to a closed list: error = %v, want %v, with the task's name", err, ErrTasksClosed)
		}
		for _, o := range []*WaitOptions{{Count: 2}, {Tasks: []string{"a", "b"}}, {Tasks: []string{"a"}, Count: 1}, {Count: -1}} {
			if c, err := WaitCommitted(t.Context(), store, o); err == nil {
				t.Errorf("WaitCommitted(%+v) returned %d tasks, want an error", o, len(c.Commits()))
			}
		}
		if _, err := WaitCommitted(t.Context(), store, &WaitOptions{Tasks: []string{"c", "a", "b", "b"}}); err != nil {
			t.Error(err)
		}
	})
}

// countingStore is a store that counts its reads.
type countingStore struct {
	*partd.Dict
	gets atomic.Int64
}

func (p *countingStore) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	p.gets.Add(1)
	return p.Dict.Get(ctx, keys...)
}

// TestAddTasksWhileClosing checks that WaitCommitted waits for every task that AddTasks accepts while CloseTasks runs.
func TestAddTasksWhileClosing(t *testing.T) {
	for range 50 {
		store := partd.NewDict()
		accepted := make(chan string, 20)
		var adders sync.WaitGroup
		for a := range 4 {
			adders.Go(func() {
				for i := range 5 {
					name := fmt.Sprint(a, "/", i)
					if err := AddTasks(t.Context(), store, name); err == nil {
						accepted <- name
					} else if !errors.Is(err, ErrTasksClosed) {
						t.Errorf("AddTasks() error = %v, want %v", err, ErrTasksClosed)
					}
				}
			})
		}
		if err := CloseTasks(t.Context(), store); err != nil {
			t.Error(err)
		}
		adders.Wait()
		close(accepted)
		for name := range accepted {
			mustCommit(t, mustBegin(t, store, name, ""))
		}
		if _, err := WaitCommitted(t.Context(), store, nil); err != nil {
			t.Fatal(err)
		}
		c, err := readControl(t.Context(), store)
		if err != nil || len(c.winners) != len(c.tasks) {
			t.Fatalf("AddTasks() accepted %d tasks, but the task list has %d (error %v)", len(c.winners), len(c.tasks), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var missing *MissingError
	_, err := WaitCommitted(ctx, partd.NewDict(), nil)
	if !errors.As(err, &missing) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "partd: get") {
		t.Errorf("WaitCommitted() with a canceled context: error = %v, want a MissingError with the error of the store", err)
	}
}
