package shards_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestServerKilled kills a server under load and restarts it. While the server is down, operations
// on its keys must fail with an error that names the server, and operations on other keys must
// succeed, even for a new client. After the restart all clients must work, and every acknowledged
// batch must exist once.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := startCluster(t)
	const writers, keys = 4, 60
	key := func(i int) string { return fmt.Sprint("key ", i) }
	var batches atomic.Int64
	var stopped atomic.Bool
	var acknowledged [writers]atomic.Int64
	var wg sync.WaitGroup
	for w := range writers {
		store := open(t, c.url())
		wg.Go(func() {
			for !stopped.Load() {
				var batch []partd.Entry
				for i := range keys {
					batch = append(batch, partd.Entry{Key: key(i), Value: fmt.Appendf(nil, "%d/%d ", w, acknowledged[w].Load())})
				}
				if err := store.Append(ctx, batch...); err != nil {
					t.Error(err)
					break
				}
				acknowledged[w].Add(1)
				batches.Add(1)
			}
			if err := partd.Close(ctx, store); err != nil {
				t.Error(err)
			}
		})
	}
	probe := open(t, c.url())
	for batches.Load() < 3 && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	serverOf := c.serverOf(t)
	must.Get(probe.Get(ctx, key(0)))(t)
	for round := range 2 {
		const victim = 1
		c.servers[victim].Kill()
		newClient := open(t, c.url()) // opened while a server is down
		failed, succeeded := 0, 0
		for i := range keys {
			for name, store := range map[string]partd.Partd{"an old client": probe, "a new client": newClient} {
				shortCtx, cancel := context.WithTimeout(ctx, 20*time.Second)
				if serverOf[key(i)] == victim {
					cancel()
					shortCtx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
				}
				_, err := store.Get(shortCtx, key(i))
				cancel()
				switch {
				case serverOf[key(i)] != victim:
					succeeded++
					if err != nil {
						t.Fatalf("Get by %s from a server that is up: %v", name, err)
					}
				case err == nil || !strings.Contains(err.Error(), "shard "+c.addresses[victim]+": "):
					t.Fatalf("Get by %s from the server that is down = %v, want an error that names the server", name, err)
				default:
					failed++
				}
			}
		}
		if failed == 0 || succeeded == 0 {
			t.Fatalf("%d gets failed and %d succeeded, want some of both", failed, succeeded)
		}
		c.restart(t, victim)
		// An append in progress during two kills may end with an unknown outcome.
		for w := range acknowledged {
			for before := acknowledged[w].Load(); acknowledged[w].Load() < before+5 && !t.Failed(); {
				time.Sleep(time.Millisecond)
			}
		}
		if got, err := scan(ctx, newClient, 0, 1); err != nil || len(got) != keys {
			t.Errorf("round %d: scan by the new client = %d keys, %v, want %d", round, len(got), err, keys)
		}
		must.Do(t, partd.Close(ctx, newClient))
	}
	stopped.Store(true)
	wg.Wait()
	got := map[string]string{}
	for part := range 2 {
		partValues := must.Get(scan(ctx, probe, part, 2))(t)
		maps.Copy(got, partValues)
	}
	must.Do(t, partd.Close(ctx, probe))
	if len(got) != keys {
		t.Errorf("both parts have %d keys, want %d", len(got), keys)
	}
	want := make([]int64, writers)
	for w := range want {
		want[w] = acknowledged[w].Load()
	}
	for k, value := range got {
		next := make([]int64, writers)
		for _, piece := range strings.Fields(value) {
			var w int
			var n int64
			if _, err := fmt.Sscanf(piece, "%d/%d", &w, &n); err != nil || n != next[w] {
				t.Fatalf("%s: the next piece of writer %d is %q, want number %d", k, w, piece, next[w])
			}
			next[w]++
		}
		if !slices.Equal(next, want) {
			t.Fatalf("%s has %d batches, want the acknowledged %d", k, next, want)
		}
	}
	t.Logf("%d batches of %d keys were appended during two kills", batches.Load(), keys)
}
