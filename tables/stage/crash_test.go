package stage_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"sync/atomic"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/stage"
)

var errDead = errors.New("dead")

// dyingStore is a store that simulates the death of its process: after a number of changes, all changes fail.
type dyingStore struct {
	*partd.Dict
	changesLeft atomic.Int64
}

// change calls f, which changes the store, unless the store has died.
func (d *dyingStore) change(f func() error) error {
	if d.changesLeft.Add(-1) < 0 {
		return errDead
	}
	return f()
}

func (d *dyingStore) Append(ctx context.Context, entries ...partd.Entry) error {
	return d.change(func() error { return d.Dict.Append(ctx, entries...) })
}

func (d *dyingStore) Delete(ctx context.Context, keys ...string) error {
	return d.change(func() error { return d.Dict.Delete(ctx, keys...) })
}

func (d *dyingStore) Set(ctx context.Context, key string, value []byte) error {
	return d.change(func() error { return d.Dict.Set(ctx, key, value) })
}

func (d *dyingStore) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return d.Dict.Keys(ctx)
}

// TestDiesAtEachChange checks that a pipeline returns the right result after an earlier run died, whatever
// the number of changes before its death.
func TestDiesAtEachChange(t *testing.T) {
	recipe := newRecipe(t)
	for changes := int64(0); ; changes++ {
		store := &dyingStore{Dict: partd.NewDict()}
		store.changesLeft.Store(changes)
		_, runErr := recipe.pipeline().Run(t.Context(), open(t, t.TempDir(), &stage.Options{Store: store, Parallel: 1}))
		if runErr != nil && !errors.Is(runErr, errDead) {
			t.Fatalf("the dying run returned %v, want %v", runErr, errDead)
		}
		got, err := recipe.pipeline().Run(t.Context(), open(t, t.TempDir(), &stage.Options{Store: store.Dict}))
		if b, _ := json.Marshal(got); err != nil || string(b) != wantResult {
			t.Fatalf("after a death at change %d: Run = %s, %v, want the result of an undisturbed run", changes, b, err)
		}
		if runErr == nil {
			if changes < 8 {
				t.Errorf("the pipeline stored its results in %d changes, want at least 8", changes)
			}
			return
		}
	}
}
