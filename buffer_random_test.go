package partd

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestBufferUnderFaults runs random operations in several goroutines while both stores
// fail at random, and compares the results with a model. Each goroutine has its own keys.
func TestBufferUnderFaults(t *testing.T) {
	ctx := context.Background()
	b, fast, slow := newFaultyBuffer(t, 1<<20)
	rng := rand.New(rand.NewPCG(7, 7))
	var mu sync.Mutex
	fail := func(string) (error, error) {
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(4) == 0 {
			return errDisk, nil
		}
		return nil, nil
	}
	fast.set(fail)
	slow.set(fail)
	var wg sync.WaitGroup
	models := make([]map[string][]byte, 4)
	for g := range models {
		models[g] = map[string][]byte{}
		wg.Go(func() { makeRandomChanges(t, b, g, models[g]) })
	}
	wg.Wait()
	fast.set(nil)
	slow.set(nil)
	must.Do(t, b.Flush(ctx))
	for _, model := range models {
		for key, want := range model {
			wantValue(t, slow, key, string(want))
		}
	}
}

func makeRandomChanges(t *testing.T, b *Buffer, g int, model map[string][]byte) {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(uint64(g), 1))
	for step := range 3000 {
		key := fmt.Sprint(g, "-", rng.IntN(40))
		value := bytes.Repeat([]byte{byte('a' + rng.IntN(26))}, rng.IntN(1500))
		if rng.IntN(400) == 0 {
			value = make([]byte, 700_000) // goes straight to the slow store
		}
		switch op := rng.IntN(20); {
		case op < 13:
			if b.Append(ctx, Entry{key, value}) == nil {
				model[key] = append(model[key], value...)
			}
		case op == 13:
			if b.Set(ctx, key, value) == nil {
				model[key] = bytes.Clone(value)
			}
		case op == 14:
			if b.Delete(ctx, key) == nil {
				delete(model, key)
			}
		case op == 15:
			if got, err := b.Pop(ctx, key); err == nil {
				if !bytes.Equal(got[0], model[key]) {
					t.Errorf("goroutine %d, step %d: Pop(%q) returned wrong data: %d bytes, want %d", g, step, key, len(got[0]), len(model[key]))
				}
				delete(model, key)
			}
		case op == 16:
			_ = b.Flush(ctx)
		default:
			got, err := b.Get(ctx, key)
			if err != nil || !bytes.Equal(got[0], model[key]) {
				t.Errorf("goroutine %d, step %d: Get(%q): error %v, %d values, want a value of %d bytes", g, step, key, err, len(got), len(model[key]))
				return
			}
		}
	}
}
