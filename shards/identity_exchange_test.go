package shards

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

func openShards(t *testing.T, stores []partd.Partd) *Shards {
	s := must.Get(Open(t.Context(), abc, func(_ context.Context, name string) (partd.Partd, error) {
		return stores[slices.Index(abc, name)], nil
	}))(t)
	return s
}

// TestOpenSharesIdentifiers checks that an append exchanges missing identifiers after Open has read all lists.
func TestOpenSharesIdentifiers(t *testing.T) {
	_, stores := restartable(3)
	for i, sh := range shardsOver(t, abc, stores).shards {
		must.Do(t, partd.SetOnce(t.Context(), stores[i], listKey, []byte(sh.signature())))
	}
	s := openShards(t, stores)
	must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("v")}))
	for i, sh := range s.shards {
		text := must.Get(readList(t.Context(), stores[i]))(t)
		if id, ok := sh.parseList(text); !ok || len(id.otherIDs) != 2 {
			t.Errorf("after an append, the list of %s is %q, want three identifiers", sh.name, text)
		}
	}
}

// relistedStore is a store to which another client writes a list right after each Drop.
type relistedStore struct {
	*restartableStore
	sh *shard
}

func (r *relistedStore) Drop(ctx context.Context) error {
	if err := r.restartableStore.Drop(ctx); err != nil {
		return err
	}
	return partd.SetOnce(ctx, r.restartableStore, listKey, []byte(r.sh.signature()))
}

// TestListWrittenAfterDrop checks that the other shards record the new identifier if another client
// writes a list after a Drop, before the dropping client does.
func TestListWrittenAfterDrop(t *testing.T) {
	servers, stores := restartable(3)
	stores[1] = &relistedStore{servers[1], shardsOver(t, abc, stores).shards[1]}
	s := shardsOver(t, abc, stores)
	fill(t, s, 30)
	for range 3 {
		must.Do(t, s.Drop(t.Context()))
		want := fill(t, openShards(t, stores), 30)
		if got, err := scan(shardsOver(t, abc, stores), 0, 1); err != nil || !maps.Equal(got, want) {
			t.Fatalf("scan = %d keys, %v, want %d", len(got), err, len(want))
		}
	}
}
