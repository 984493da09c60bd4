package shuffle

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
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
		listed := []string{"a", "b", "b"}
		var missing *MissingError
		start := time.Now()
		store.gets.Store(0)
		_, err := WaitCommitted(t.Context(), store, &WaitOptions{Tasks: listed, Timeout: time.Minute})
		if !errors.As(err, &missing) || !slices.Equal(missing.Missing, []string{"b"}) || missing.Committed != 1 || !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "shuffle: ") {
			t.Errorf("WaitCommitted() error = %v, want a MissingError for task b", err)
		}
		if elapsed := time.Since(start); elapsed != time.Minute || store.gets.Load() > 70 {
			t.Errorf("WaitCommitted() took %v with %d reads, want one minute with at most 70 reads", elapsed, store.gets.Load())
		}
		if _, err := WaitCommitted(t.Context(), store, &WaitOptions{Count: 3, Timeout: time.Second}); !errors.As(err, &missing) || missing.Expected != 3 {
			t.Errorf("WaitCommitted() for 3 tasks: error = %v, want a MissingError", err)
		}
		go func() {
			time.Sleep(time.Hour)
			completeTask("b")
		}()
		start = time.Now()
		c, err := WaitCommitted(t.Context(), store, &WaitOptions{Tasks: listed})
		if err != nil || len(c.Commits()) != 2 {
			t.Fatal(err)
		}
		if elapsed := time.Since(start) - time.Hour; elapsed < 0 || elapsed > 2*time.Second {
			t.Errorf("WaitCommitted() returned %v after the hour, want at most 2 s", elapsed)
		}
		wantPieces(t, c, map[string]string{"k": "a;b;"})
		for _, o := range []*WaitOptions{nil, {Count: 1}, {Tasks: []string{"a"}}, {Tasks: []string{"a"}, Count: 1}, {Count: -1}} {
			if c, err := WaitCommitted(t.Context(), store, o); err == nil {
				t.Errorf("WaitCommitted(%+v) returned %d tasks, want an error", o, len(c.Commits()))
			}
		}
		must.Get(WaitCommitted(t.Context(), store, &WaitOptions{Count: 2}))(t)
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

// TestWaitOnFailingStore checks that the error contains the store's last error.
func TestWaitOnFailingStore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := WaitCommitted(ctx, partd.NewDict(), &WaitOptions{Count: 1})
	if !errors.As(err, new(*MissingError)) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "partd: get") {
		t.Errorf("WaitCommitted() with a canceled context: error = %v, want a MissingError with the error of the store", err)
	}
}
