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

// dying is a store whose process dies at a change: that one and all later fail.
type dying struct {
	*partd.Dict
	left atomic.Int64
}

func (d *dying) do(change func() error) error {
	if d.left.Add(-1) < 0 {
		return errDead
	}
	return change()
}

func (d *dying) Append(ctx context.Context, entries ...partd.Entry) error {
	return d.do(func() error { return d.Dict.Append(ctx, entries...) })
}

func (d *dying) Delete(ctx context.Context, keys ...string) error {
	return d.do(func() error { return d.Dict.Delete(ctx, keys...) })
}

func (d *dying) Set(ctx context.Context, key string, value []byte) error {
	return d.do(func() error { return d.Dict.Set(ctx, key, value) })
}

func (d *dying) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] { return d.Dict.Keys(ctx) }

// Whatever change of the store is the last before the process dies, what is read later is
// whole.
func TestDiesAtEachChange(t *testing.T) {
	recipe := newRecipe(t)
	for changes := int64(0); ; changes++ {
		store := &dying{Dict: partd.NewDict()}
		store.left.Store(changes)
		_, failed := recipe.pipeline().Run(t.Context(), open(t, t.TempDir(), &stage.Options{Store: store, Parallel: 1}))
		if failed != nil && !errors.Is(failed, errDead) {
			t.Fatal(failed)
		}
		got, err := recipe.pipeline().Run(t.Context(), open(t, t.TempDir(), &stage.Options{Store: store.Dict}))
		if b, _ := json.Marshal(got); err != nil || string(b) != wanted {
			t.Fatalf("after %d changes: %s, %v", changes, b, err)
		}
		if failed == nil {
			if changes < 8 {
				t.Errorf("all was kept in %d changes", changes)
			}
			return
		}
	}
}
