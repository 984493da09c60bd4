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
		store := &polled{Dict: partd.NewDict()}
		finish := func(task string) {
			w := begin(t, store, task, "1")
			write(t, w, "k", task)
			commit(t, w)
		}
		finish("a")
		if err := AddTasks(t.Context(), store, "a", "b"); err != nil {
			t.Fatal(err)
		}
		var missing *MissingError
		start := time.Now()
		store.gets.Store(0)
		_, err := WaitCommitted(t.Context(), store, &WaitOptions{Timeout: time.Minute})
		if !errors.As(err, &missing) || !slices.Equal(missing.Missing, []string{"b"}) || !missing.Open || missing.Committed != 1 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("b is missing: %v", err)
		}
		if elapsed := time.Since(start); elapsed != time.Minute || store.gets.Load() > 70 {
			t.Errorf("waited %v, with %d reads", elapsed, store.gets.Load())
		}
		if _, err := WaitCommitted(t.Context(), store, &WaitOptions{Count: 3, Timeout: time.Second}); !errors.As(err, &missing) || missing.Expected != 3 {
			t.Errorf("3 tasks: %v", err)
		}
		go func() {
			time.Sleep(time.Second)
			finish("b")
			time.Sleep(time.Second)
			_ = AddTasks(t.Context(), store, "c")
			_ = CloseTasks(t.Context(), store)
			time.Sleep(time.Hour)
			finish("c")
		}()
		start = time.Now()
		c, err := WaitCommitted(t.Context(), store, nil)
		if err != nil || len(c.Commits()) != 3 {
			t.Fatal(err)
		}
		if elapsed := time.Since(start) - time.Hour; elapsed < 2*time.Second || elapsed > 4*time.Second {
			t.Errorf("noticed the commit %v late", elapsed)
		}
		if got, err := gather(c.Scan(t.Context())); err != nil || got["k"] != "a;b;c;" {
			t.Errorf("%q, %v", got, err)
		}
		if err := AddTasks(t.Context(), store, "b", "late"); !errors.Is(err, ErrTasksClosed) || !strings.Contains(err.Error(), "late") {
			t.Errorf("adding a task to the closed list: %v", err)
		}
		for _, o := range []*WaitOptions{{Count: 2}, {Tasks: []string{"a", "b"}}, {Tasks: []string{"a"}, Count: 1}, {Count: -1}} {
			if c, err := WaitCommitted(t.Context(), store, o); err == nil {
				t.Errorf("%+v: %d tasks", o, len(c.Commits()))
			}
		}
		if _, err := WaitCommitted(t.Context(), store, &WaitOptions{Tasks: []string{"c", "a", "b", "b"}}); err != nil {
			t.Error(err)
		}
	})
}

// polled counts the reads of a store.
type polled struct {
	*partd.Dict
	gets atomic.Int64
}

func (p *polled) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	p.gets.Add(1)
	return p.Dict.Get(ctx, keys...)
}

// WaitCommitted waits for every task that AddTasks has accepted, however it races with
// CloseTasks. Its error includes that of a store that could not be read.
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
						t.Error(err)
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
			commit(t, begin(t, store, name, ""))
		}
		if _, err := WaitCommitted(t.Context(), store, nil); err != nil {
			t.Fatal(err)
		}
		c, err := readControl(t.Context(), store)
		if err != nil || len(c.winners) != len(c.tasks) {
			t.Fatalf("%d accepted, %d listed, %v", len(c.winners), len(c.tasks), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var missing *MissingError
	_, err := WaitCommitted(ctx, partd.NewDict(), nil)
	if !errors.As(err, &missing) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "partd: get") {
		t.Error(err)
	}
}
