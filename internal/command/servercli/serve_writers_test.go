package servercli_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/remote"
)

// writer changes a store through a client, in its own goroutine. It has its own keys, and knows
// their values, because no other writer uses them. It appends numbered pieces to the shared keys.
type writer struct {
	name   string
	store  partd.Partd
	rnd    *rand.Rand
	own    map[string]string // expected values
	pieces int               // number of pieces appended to each shared key
	steps  int               // number of values generated so far; step generates one per call
}

const sharedKeys = 4

func sharedKey(i int) string { return fmt.Sprint("shared ", i) }

func (w *writer) ownKey() string { return fmt.Sprint("own ", w.name, " ", w.rnd.IntN(5)) }

func (w *writer) value() string {
	n := []int{1, 30, 300, 5000}[w.rnd.IntN(4)]
	if w.rnd.IntN(50) == 0 {
		n = 300_000
	}
	w.steps++
	return strings.Repeat(fmt.Sprintf("%s:%d ", w.name, w.steps), n/12+1)
}

// step makes one change, or reads the result of earlier changes.
func (w *writer) step(ctx context.Context) error {
	k := w.ownKey()
	v := w.value()
	switch n := w.rnd.IntN(100); {
	case n < 55: // append to the shared keys and one own key in one batch
		entries := []partd.Entry{{Key: k, Value: []byte(v)}}
		for i := range sharedKeys {
			entries = append(entries, partd.Entry{Key: sharedKey(i), Value: fmt.Appendf(nil, "<%s:%d>", w.name, w.pieces)})
		}
		if err := w.store.Append(ctx, entries...); err != nil {
			return err
		}
		w.own[k] += v
		w.pieces++
	case n < 65:
		if err := partd.Set(ctx, w.store, k, []byte(v)); err != nil {
			return err
		}
		w.own[k] = v
	case n < 70:
		if err := partd.SetOnce(ctx, w.store, k, []byte(v)); err != nil {
			return err
		}
		if _, exists := w.own[k]; !exists {
			w.own[k] = v
		}
	case n < 80:
		k2 := w.ownKey()
		if err := partd.Delete(ctx, w.store, k, k2); err != nil {
			return err
		}
		delete(w.own, k)
		delete(w.own, k2)
	default:
		values, err := w.store.Get(ctx, k)
		if err != nil {
			return err
		}
		if string(values[0]) != w.own[k] {
			return fmt.Errorf("Get(%q) = %d bytes, want %d: %s", k, len(values[0]), len(w.own[k]), firstDifference(string(values[0]), w.own[k]))
		}
	}
	return nil
}

func firstDifference(got, want string) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("the value from byte %d on is %.40q, want %.40q", i, got[i:], want[i:])
}

// fleet is a set of clients, each with several writers.
type fleet struct {
	clients []*remote.Client
	writers []*writer
}

func newFleet(ctx context.Context, urls []string, perClient int, seed uint64) (*fleet, error) {
	f := new(fleet)
	for i, url := range urls {
		c, err := remote.Dial(ctx, url, nil)
		if err != nil {
			return f, err
		}
		f.clients = append(f.clients, c)
		for j := range perClient {
			f.writers = append(f.writers, &writer{
				name: fmt.Sprintf("%d.%d", i, j), store: c, own: map[string]string{},
				rnd: rand.New(rand.NewPCG(seed, uint64(len(f.writers)))),
			})
		}
	}
	return f, nil
}

// write runs all writers until stop is closed, and returns the first error.
func (f *fleet) write(ctx context.Context, stop <-chan struct{}) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, w := range f.writers {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-ctx.Done():
					return
				default:
				}
				if err := w.step(ctx); err != nil && ctx.Err() == nil {
					cancel(fmt.Errorf("writer %s: %w", w.name, err))
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (f *fleet) check(ctx context.Context, store partd.Partd) error {
	want := map[string]string{}
	for _, w := range f.writers {
		maps.Copy(want, w.own)
	}
	var shared [sharedKeys]string
	for c, err := range partd.Scan(ctx, store) {
		if err != nil {
			return err
		}
		isShared := false
		for i := range shared {
			if c.Key == sharedKey(i) {
				shared[i] += string(c.Data)
				isShared = true
			}
		}
		if isShared {
			continue
		}
		rest, ok := want[c.Key]
		if !ok {
			return fmt.Errorf("the store has key %q, which no writer has created or which was deleted", c.Key)
		}
		if !strings.HasPrefix(rest, string(c.Data)) {
			return fmt.Errorf("key %q at offset %d: %s", c.Key, c.Offset, firstDifference(string(c.Data), rest))
		}
		want[c.Key] = rest[len(c.Data):]
		if c.Last {
			if want[c.Key] != "" {
				return fmt.Errorf("the value of key %q lacks %d bytes at its end", c.Key, len(want[c.Key]))
			}
			delete(want, c.Key)
		}
	}
	if len(want) > 0 {
		return fmt.Errorf("the store lacks the keys %.200q", slices.Sorted(maps.Keys(want)))
	}
	for i, value := range shared {
		next := map[string]int{}
		for piece := range strings.SplitSeq(strings.TrimSuffix(value, ">"), ">") {
			if value == "" {
				break
			}
			var n int
			name, number, ok := strings.Cut(strings.TrimPrefix(piece, "<"), ":")
			if _, err := fmt.Sscan(number, &n); err != nil || !ok {
				return fmt.Errorf("key %q contains %.40q, which is not a complete piece", sharedKey(i), piece)
			}
			if n != next[name] {
				return fmt.Errorf("key %q: after %d pieces of writer %s, the next has number %d", sharedKey(i), next[name], name, n)
			}
			next[name]++
		}
		for _, w := range f.writers {
			if next[w.name] != w.pieces {
				return fmt.Errorf("key %q has %d pieces of writer %s, want %d", sharedKey(i), next[w.name], w.name, w.pieces)
			}
		}
	}
	return nil
}

func (f *fleet) changes() (n int) {
	for _, w := range f.writers {
		n += w.steps
	}
	return n
}

func (f *fleet) close(t testing.TB) {
	for _, c := range f.clients {
		must.Do(t, c.Close())
	}
}

// boundedContext returns a context with a time limit, for a test with the given number of cuts or kills.
// Only a run that makes no progress reaches the limit.
func boundedContext(t testing.TB, events int) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Duration(events)*200*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}
