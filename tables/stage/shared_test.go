package stage_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/tables/stage"
)

// far is a store with others between its changes.
type far struct{ *partd.Dict }

func (f far) Append(ctx context.Context, entries ...partd.Entry) error {
	time.Sleep(rand.N(time.Millisecond))
	return f.Dict.Append(ctx, entries...)
}

func (f far) Set(ctx context.Context, key string, value []byte) error {
	time.Sleep(rand.N(time.Millisecond))
	return f.Dict.Set(ctx, key, value)
}

// Those that share a store and no directory put a key at the same time: what is read later
// is one of their results, whole, and what the other has put goes.
func TestSharedStore(t *testing.T) {
	store := far{partd.NewDict()}
	places := []*stage.Results{open(t, t.TempDir(), &stage.Options{Store: store}), open(t, t.TempDir(), &stage.Options{Store: store})}
	reader := open(t, t.TempDir(), &stage.Options{Store: store})
	for round := range 30 {
		var both, ready sync.WaitGroup
		ready.Add(len(places))
		make := func(before func()) *stage.Stage[arrow.Table] {
			return stage.Define("made", func(context.Context, *stage.Inputs) (arrow.Table, error) {
				before()
				return tableWith(int64(round)), nil
			}, stage.Spec[arrow.Table]{Version: "1", Params: []any{round}, Cache: true})
		}
		for _, r := range places {
			both.Go(func() {
				_, err := make(func() { ready.Done(); ready.Wait() }).Run(t.Context(), r)
				if err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		got, err := make(func() { t.Error("it is made anew") }).Run(t.Context(), reader)
		if err != nil || fmt.Sprint(valuesOf(got)) != fmt.Sprintf("[%d]", round) {
			t.Fatalf("round %d: %v, %v", round, got, err)
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
	all := keys() // one who is done before the other puts is replaced at once
	if all <= 2*30 || all > 3*30 {
		t.Errorf("%d keys", all)
	}
	for after, want := range map[time.Duration]int{time.Hour: all, 25 * time.Hour: 2 * 30} {
		stage.SetNow(reader, func() time.Time { return time.Now().Add(after) })
		if _, err := reader.GC(t.Context(), nil); err != nil || after > 24*time.Hour && keys() != want {
			t.Errorf("after %v there are %d keys, want %d: %v", after, keys(), want, err)
		}
	}
}

// Files that are made anew, since they expired, are made while others use the old ones.
func TestFilesMadeAnewWhileUsed(t *testing.T) {
	recipe, dir := newRecipe(t), t.TempDir()
	r, other := open(t, dir, nil), open(t, dir, nil)
	pipeline := recipe.pipeline()
	stage.Expire(pipeline, "text", time.Hour)
	stage.SetNow(other, func() time.Time { return time.Now().Add(2 * time.Hour) })
	recipe.before = func(name string) error {
		if name != "last" {
			return nil
		}
		recipe.before = nil
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		again := newRecipe(t)
		again.raw = recipe.raw
		again.source["last.go"].Data = []byte("package other")
		later := again.pipeline()
		stage.Expire(later, "text", time.Hour)
		_, err := later.Run(ctx, other)
		if err == nil {
			_, err = other.GC(ctx, nil)
		}
		return err
	}
	if got := run(t, r, pipeline); got != wanted {
		t.Error(got)
	}
	if _, err := other.GC(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// A result that was kept by somebody with no TTL, or a longer one, counts as long as the
// stage's own says, and so does what is made of it.
func TestOtherTTL(t *testing.T) {
	recipe := newRecipe(t)
	r := open(t, t.TempDir(), nil)
	run(t, r, recipe.pipeline())
	recipe.ran.take()
	mine := recipe.pipeline()
	stage.Expire(mine, "double", time.Hour)
	stage.SetNow(r, func() time.Time { return time.Now().Add(2 * time.Hour) })
	if got := plan(t, r, mine); !strings.Contains(got, "double runs its result expired at") || !strings.Contains(got, "text kept; last runs its") {
		t.Error(got)
	}
	if run(t, r, mine); recipe.ran.take() != "double 1, last 1" {
		t.Error("not exactly what is too old ran")
	}
	if run(t, r, mine); recipe.ran.take() != "" {
		t.Error("what is new ran")
	}
}

// An ancestor that ends its goroutine has failed, for all that need it.
func TestGoexit(t *testing.T) {
	alone := stage.Spec[int]{Version: "1"}
	ends := stage.Define("ends", func(context.Context, *stage.Inputs) (int, error) { runtime.Goexit(); return 1, nil }, alone)
	needs := func(name string) stage.Any {
		return stage.Define(name, func(_ context.Context, in *stage.Inputs) (int, error) {
			t.Errorf("%s runs", name)
			return ends.Of(in)
		}, stage.Spec[int]{Version: "1", From: []stage.Any{ends}})
	}
	last := stage.Define("last", nothing, stage.Spec[int]{Version: "1", From: []stage.Any{needs("one"), needs("two")}})
	if _, err := last.Run(t.Context(), open(t, t.TempDir(), nil)); err == nil || !strings.Contains(err.Error(), "ended its goroutine") {
		t.Error(err)
	}
}

// The error is that of the stage that failed, not of those that were cancelled for it.
func TestCauseOfCancel(t *testing.T) {
	cause := errors.New("no luck")
	after := func(stages ...stage.Any) stage.Spec[int] { return stage.Spec[int]{Version: "1", From: stages} }
	for range 50 {
		runs := make(chan struct{})
		waits := stage.Define("waits", func(ctx context.Context, _ *stage.Inputs) (int, error) {
			close(runs)
			<-ctx.Done()
			return 0, ctx.Err()
		}, after())
		fails := stage.Define("fails", func(context.Context, *stage.Inputs) (int, error) { <-runs; return 0, cause }, after())
		one := stage.Define("one", nothing, after(waits))
		two := stage.Define("two", nothing, after(waits, fails))
		_, err := stage.Define("last", nothing, after(one, two)).Run(t.Context(), open(t, t.TempDir(), nil))
		var e *stage.Error
		if !errors.Is(err, cause) || !errors.As(err, &e) || e.Stage != "fails" {
			// Where one began to wait, its own context is not cancelled by two's failure.
			t.Fatal(err)
		}
	}
}

// A stage of an interface may return nil.
func TestNil(t *testing.T) {
	s := stage.Define("nil", func(context.Context, *stage.Inputs) (any, error) { return nil, nil },
		stage.Spec[any]{Version: "1", Cache: true, Codec: encode.JSON[any](), CodecName: "json"})
	if got, err := s.Run(t.Context(), open(t, t.TempDir(), nil)); got != nil || err != nil {
		t.Error(got, err)
	}
}

// The Results of an Open that failed are an error, as are zero ones, and can be closed.
func TestNilResults(t *testing.T) {
	s := stage.Define("one", func(context.Context, *stage.Inputs) (int, error) { return 1, nil }, stage.Spec[int]{Version: "1"})
	for _, r := range []*stage.Results{nil, {}} {
		if _, err := s.Run(t.Context(), r); err == nil {
			t.Error("it ran")
		}
		if _, err := s.Plan(t.Context(), r); err == nil {
			t.Error("there is a plan")
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
