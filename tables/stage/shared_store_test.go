package stage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/stage"
)

// slowStore is a store that delays changes, so that other processes interleave with them.
type slowStore struct{ *partd.Dict }

func (f slowStore) Append(ctx context.Context, entries ...partd.Entry) error {
	time.Sleep(rand.N(time.Millisecond))
	return f.Dict.Append(ctx, entries...)
}

func (f slowStore) Set(ctx context.Context, key string, value []byte) error {
	time.Sleep(rand.N(time.Millisecond))
	return f.Dict.Set(ctx, key, value)
}

// TestSharedStore computes the result for a key twice at the same time, as processes that share a store but no directory
// may do. Later reads must return one complete result, and GC must remove the data of the other.
func TestSharedStore(t *testing.T) {
	store := slowStore{partd.NewDict()}
	results := []*stage.Results{open(t, t.TempDir(), &stage.Options{Store: store}), open(t, t.TempDir(), &stage.Options{Store: store})}
	reader := open(t, t.TempDir(), &stage.Options{Store: store})
	for round := range 30 {
		var done, ready sync.WaitGroup
		ready.Add(len(results))
		define := func(onRun func()) *stage.Stage[arrow.Table] {
			return stage.Define("number", func(context.Context, *stage.Inputs) (arrow.Table, error) {
				onRun()
				return tableWith(int64(round)), nil
			}, stage.Spec[arrow.Table]{Version: "1", Params: []any{round}, Cache: true})
		}
		for _, r := range results {
			done.Go(func() {
				_, err := define(func() { ready.Done(); ready.Wait() }).Run(t.Context(), r)
				if err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		got, err := define(func() { t.Error("a stored result was computed again") }).Run(t.Context(), reader)
		if err != nil || fmt.Sprint(valuesOf(got)) != fmt.Sprintf("[%d]", round) {
			t.Fatalf("round %d: Run = %v, %v, want a stored result", round, got, err)
		}
	}
	keys := func() (n int) {
		for _, err := range store.Keys(t.Context()) {
			if n++; err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	count := keys() // a round stores 3 keys (two results' data and one info), or fewer if one put found and replaced the other's result
	if count <= 2*30 || count > 3*30 {
		t.Errorf("the store has %d keys, want more than 60 and at most 90", count)
	}
	for after, want := range map[time.Duration]int{time.Hour: count, 25 * time.Hour: 2 * 30} {
		stage.SetNow(reader, func() time.Time { return time.Now().Add(after) })
		if _, err := reader.GC(t.Context(), nil); err != nil || after > 24*time.Hour && keys() != want {
			t.Errorf("after GC %v later, the store has %d keys, %v, want %d", after, keys(), err, want)
		}
	}
}

// TestExpiredFilesInUse checks that expired files can be computed again while a run still uses the old files.
func TestExpiredFilesInUse(t *testing.T) {
	recipe, dir := newRecipe(t), t.TempDir()
	r, second := open(t, dir, nil), open(t, dir, nil)
	pipeline := recipe.pipeline()
	stage.Expire(pipeline, "text", time.Hour)
	stage.SetNow(second, func() time.Time { return time.Now().Add(2 * time.Hour) })
	recipe.onRun = func(name string) error {
		if name != "last" {
			return nil
		}
		recipe.onRun = nil
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		changed := newRecipe(t)
		changed.raw = recipe.raw
		changed.source["last.go"].Data = []byte("package other")
		laterPipeline := changed.pipeline()
		stage.Expire(laterPipeline, "text", time.Hour)
		_, err := laterPipeline.Run(ctx, second)
		if err == nil {
			_, err = second.GC(ctx, nil)
		}
		return err
	}
	if got := run(t, r, pipeline); got != wantResult {
		t.Errorf("the pipeline returned %s, want %s", got, wantResult)
	}
	if _, err := second.GC(t.Context(), nil); err != nil {
		t.Errorf("GC failed: %v", err)
	}
}

// TestTTLOfStoredResult checks that the stage's TTL (time to live) also applies to a result that another program stored
// without a TTL, and to the results computed from that result.
func TestTTLOfStoredResult(t *testing.T) {
	recipe := newRecipe(t)
	r := open(t, t.TempDir(), nil)
	run(t, r, recipe.pipeline())
	recipe.runs.take()
	withTTL := recipe.pipeline()
	stage.Expire(withTTL, "double", time.Hour)
	stage.SetNow(r, func() time.Time { return time.Now().Add(2 * time.Hour) })
	if got := plan(t, r, withTTL); !strings.Contains(got, "double runs its result expired at") || !strings.Contains(got, "text kept; last runs its") {
		t.Errorf("the plan is %s, want exactly the expired stages to run", got)
	}
	if run(t, r, withTTL); recipe.runs.take() != "double 1, last 1" {
		t.Error("the pipeline did not run exactly the expired stages")
	}
	if run(t, r, withTTL); recipe.runs.take() != "" {
		t.Error("a stage with a new result ran")
	}
}
