package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestGroupCommitCrashes simulates power failures while several goroutines append with Sync.
// After each, the store must contain all acknowledged appends of each goroutine, completely,
// and at most one more: the append that the goroutine was waiting for.
func TestGroupCommitCrashes(t *testing.T) {
	const writers = 4
	rounds := crashCount(t, 400) / 100
	for seed := range max(rounds, 2) {
		rnd := rand.New(rand.NewPCG(uint64(seed), 3))
		mem := vfstest.NewMem()
		var begun, acked [writers]atomic.Int64
		var mu sync.Mutex
		var failed error
		armed := false
		h := crashHooksOn(vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			if !armed || failed != nil || !op.Changes() || rnd.IntN(5) != 0 {
				return nil
			}
			var minAppends, maxAppends [writers]int64
			for w := range writers {
				minAppends[w] = acked[w].Load() // acknowledged before the crash
			}
			crashed := mem.Crash(rnd)
			for w := range writers {
				maxAppends[w] = begun[w].Load() // begun before the check
			}
			failed = checkGroupCommit(crashed, minAppends[:], maxAppends[:])
			return nil
		}))
		opts := &Options{Memory: MinMemory, Sync: true, FileSize: 20 << 10}
		s := openWith(t, crashDir, opts, h)
		armed = true
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for n := range 25 {
					begun[w].Add(1)
					if !must.Check(t, s.Append(context.Background(), makeGroupBatch(w, n)...)) {
						return
					}
					acked[w].Add(1)
				}
			})
		}
		wg.Wait()
		mu.Lock()
		armed = false
		err := failed
		mu.Unlock()
		if err := errors.Join(err, s.Close()); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func makeGroupBatch(w, n int) []partd.Entry {
	v := bytes.Repeat([]byte{byte(n)}, 20+n%3*300)
	return []partd.Entry{{Key: fmt.Sprint("a", w), Value: v}, {Key: fmt.Sprint("b", w), Value: v}}
}

func checkGroupCommit(crashed *vfstest.Mem, minAppends, maxAppends []int64) error {
	s, err := openHooked(crashDir, &Options{Memory: MinMemory}, crashHooksOn(crashed))
	if err != nil {
		return err
	}
	got, err := contents(s)
	if err = errors.Join(err, s.Close()); err != nil {
		return err
	}
	for w := range minAppends {
		a, b := got[fmt.Sprint("a", w)], got[fmt.Sprint("b", w)]
		var want []byte
		n := int64(0)
		for len(want) < len(a) {
			want = append(want, makeGroupBatch(w, int(n))[0].Value...)
			n++
		}
		if !bytes.Equal(a, want) || !bytes.Equal(b, want) || n < minAppends[w] || n > maxAppends[w] {
			return fmt.Errorf("writer %d: its keys have %d and %d bytes (%d appends), want equal content from at least the %d acknowledged and at most the %d started appends", w, len(a), len(b), n, minAppends[w], maxAppends[w])
		}
	}
	return nil
}
