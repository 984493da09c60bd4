package partd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd/internal/base/keymap"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestBufferFullReportsFailure checks that an Append to a full buffer returns the error of the slow store, and
// changes nothing.
func TestBufferFullReportsFailure(t *testing.T) {
	b, _, slow := newFaultyBuffer(t, 4<<20)
	slow.set(func(string) (error, error) { return errDisk, nil })
	value := bytes.Repeat([]byte("v"), 100_000)
	var stored int
	var err error
	for stored = 0; stored < 100; stored++ {
		if err = b.Append(ctx, Entry{fmt.Sprint(stored), value}); err != nil {
			break
		}
	}
	if !errors.Is(err, errDisk) || !strings.Contains(err.Error(), "memory budget is full") {
		t.Fatalf("Append with a full budget: error %v, want %v and the words \"memory budget is full\"", err, errDisk)
	}
	wantValue(t, b, fmt.Sprint(stored), "")
	slow.set(nil)
	must.Do(t, b.Append(ctx, Entry{fmt.Sprint(stored), value}))
	must.Do(t, b.Flush(ctx))
	st := must.Get(Stat(ctx, slow.Dict))(t)
	if st.Keys != int64(stored+1) || st.Bytes != int64((stored+1)*len(value)) {
		t.Errorf("the slow store has %d keys with %d bytes, want %d with %d", st.Keys, st.Bytes, stored+1, (stored+1)*len(value))
	}
}

// TestBufferFullOfDoubt checks that an Append fails instead of waiting forever if keys in doubt, which no flush moves,
// fill the buffer.
func TestBufferFullOfDoubt(t *testing.T) {
	b, _, slow := newFaultyBuffer(t, 4<<20)
	value := make([]byte, 50_000)
	for i := range 50 {
		must.Do(t, b.Append(ctx, Entry{fmt.Sprint(i), value}))
	}
	slow.set(func(string) (error, error) { return ErrUnknownOutcome, nil })
	must.Fail(t, b.Drop(ctx), ErrUnknownOutcome, "Drop of unknown outcome")
	slow.set(nil)
	var batch []Entry
	for i := range 36 {
		batch = append(batch, Entry{fmt.Sprint("new ", i), value})
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	must.Fail(t, b.Append(ctx, batch...), errInDoubt, "Append to a buffer full of keys in doubt")
}

// TestBufferOverFullDict checks that a Buffer with a huge budget uses less than a Dict can hold. If the Dict still
// refuses a batch, the batch changes nothing.
func TestBufferOverFullDict(t *testing.T) {
	fast, slow := NewDict(), NewDict()
	fast.data.MaxBlocks = 60
	b := must.Get(NewBuffer(fast, slow, &BufferOptions{Memory: 1 << 40}))(t)
	if limit := b.budget.memory/8*9 + minOvercommit; limit > keymap.MaxBytes/8*7 {
		t.Errorf("the fast store and the index use up to %d bytes, which leaves too little for batches", limit)
	}
	must.Do(t, b.Append(ctx, Entry{"small", []byte("v")}))
	used, bytesBefore := b.MemoryUsed(), b.pins.index.bytes
	must.Fail(t, b.Append(ctx, Entry{"other", []byte("v")}, Entry{"small", []byte("v")}, Entry{"large", make([]byte, 20<<20)}), ErrTooLarge, "Append of a batch that the Dict refuses")
	if b.MemoryUsed() != used || b.pins.index.bytes != bytesBefore || b.pins.index.Len() != 1 || b.budget.admittedBytes != 0 {
		t.Errorf("after a refused batch, %d bytes are used, %d admitted and %d buffered, for %d keys; want %d, 0, %d and 1",
			b.MemoryUsed(), b.budget.admittedBytes, b.pins.index.bytes, b.pins.index.Len(), used, bytesBefore)
	}
	wantValue(t, b, "small", "v")
	wantValue(t, b, "other", "")
	must.Do(t, b.Flush(ctx))
	wantValue(t, slow, "small", "v")
	must.Do(t, b.Close())
}

// TestBufferKeepsBudget checks that the used memory stays near the budget while far more data is appended.
func TestBufferKeepsBudget(t *testing.T) {
	const memory = 8 << 20
	b, _, slow := newFaultyBuffer(t, memory)
	rng := rand.New(rand.NewPCG(1, 1))
	var sum int64
	for i := range 3000 {
		var entries []Entry
		for range 50 {
			size := rng.IntN(400)
			if rng.IntN(1000) == 0 {
				size = 1 << 20
			}
			// the number and the size of keys change over time
			entries = append(entries, Entry{fmt.Sprint(i/1000, rng.IntN(200<<(i/1000*3))), make([]byte, size)})
			sum += int64(size)
		}
		must.Do(t, b.Append(ctx, entries...))
		if used := b.MemoryUsed(); used > memory+memory/8 {
			t.Fatalf("MemoryUsed() = %d, want at most an eighth more than the budget of %d", used, memory)
		}
	}
	must.Do(t, b.Flush(ctx))
	st := must.Get(Stat(ctx, slow.Dict))(t)
	if st.Bytes != sum {
		t.Errorf("the slow store has %d bytes, want %d", st.Bytes, sum)
	}
}

type countingDict struct {
	*Dict
	pieces atomic.Int64
}

func (p *countingDict) Append(ctx context.Context, e ...Entry) error {
	p.pieces.Add(int64(len(e)))
	return p.Dict.Append(ctx, e...)
}

// TestBufferGathersLargeBatches checks that the slow store receives few, large entries for any size of batches.
func TestBufferGathersLargeBatches(t *testing.T) {
	const memory, keys, total, size = 8 << 20, 100, 400_000, 100
	pieces := map[int]int64{}
	for _, batch := range []int{100, 1_000, 20_000} {
		slow := &countingDict{Dict: NewDict()}
		b := must.Get(NewBuffer(NewDict(), slow, &BufferOptions{Memory: memory}))(t)
		entries := make([]Entry, batch)
		for start := 0; start < total; start += batch {
			for i := range entries {
				entries[i] = Entry{fmt.Sprint((start + i) % keys), fmt.Appendf(nil, "%0*d", size, start+i)}
			}
			must.Do(t, b.Append(t.Context(), entries...))
			if used := b.MemoryUsed(); used > memory+memory/4 {
				t.Fatalf("batches of %d: MemoryUsed() = %d, want at most a quarter more than the budget of %d", batch, used, memory)
			}
		}
		must.Do(t, b.Flush(t.Context()))
		pieces[batch] = slow.pieces.Load()
		got := must.Get(slow.Get(t.Context(), "7"))(t)
		for i := range total / keys {
			if want := fmt.Sprintf("%0*d", size, 7+i*keys); string(got[0][i*size:][:size]) != want {
				t.Fatalf("batches of %d: row %d of key 7 differs from %s", batch, i, want)
			}
		}
		must.Do(t, b.Close())
	}
	if pieces[20_000] > 2*pieces[100] {
		t.Errorf("pieces in the slow store by batch size: %v, want at most twice as many for 20,000 as for 100", pieces)
	}
}

// TestBufferCrowdedKey appends a batch with more data for one key than one move from the fast to
// the slow store may append. The key's buffered data must be moved first, and then the batch must
// go directly to the slow store.
func TestBufferCrowdedKey(t *testing.T) {
	slow := &countingDict{Dict: NewDict()}
	b := must.Get(NewBuffer(NewDict(), slow, &BufferOptions{Memory: 8 << 20}))(t)
	must.Do(t, b.Append(t.Context(), Entry{"a", []byte("first, ")}, Entry{"b", []byte("other")}))
	large := slices.Repeat([]Entry{{"a", bytes.Repeat([]byte{'x'}, 50_000)}}, 20)
	must.Do(t, b.Append(t.Context(), large...))
	if n := slow.pieces.Load(); n != 1+20 {
		t.Errorf("the slow store received %d pieces, want 21", n)
	}
	if used := b.MemoryUsed(); used > 1<<20 {
		t.Errorf("MemoryUsed() = %d, want at most 1 MiB", used)
	}
	wantValue(t, b, "a", "first, "+strings.Repeat("x", 20*50_000))
	wantValue(t, b, "b", "other")
	must.Do(t, b.Close())
}

// gatedStore is a store whose Set waits until the key's channel in gates is closed.
type gatedStore struct {
	*Dict
	gates map[string]chan struct{}
}

func (s gatedStore) Set(ctx context.Context, key string, value []byte) error {
	<-s.gates[key]
	return s.Dict.Set(ctx, key, value)
}

// TestBufferFullAppendLeavesQueue makes an Append wait for two keys. Then one of the keys
// grows so large that it must move to the slow store first. The flush queues for that key, so the Append must
// leave the key's queue, or both would wait forever.
func TestBufferFullAppendLeavesQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gates := map[string]chan struct{}{"a": make(chan struct{}), "b": make(chan struct{}), "c": make(chan struct{})}
		b := must.Get(NewBuffer(NewDict(), gatedStore{NewDict(), gates}, &BufferOptions{Memory: 128 << 10}))(t)
		var wg sync.WaitGroup
		begin := func(op func() error) {
			wg.Go(func() { must.Check(t, op()) })
			synctest.Wait()
		}
		half := bytes.Repeat([]byte("x"), b.mover.moveSize/2+1)
		set := func(key string) { // holds the key until its channel is closed
			begin(func() error { return b.Set(ctx, key, []byte("set")) })
		}
		set("c")
		begin(func() error { return b.Append(ctx, Entry{"a", half}, Entry{"c", []byte("x")}) })
		set("a")
		set("b")
		begin(func() error { return b.Append(ctx, Entry{"a", half}, Entry{"b", []byte("x")}) })
		for _, key := range []string{"a", "c", "b"} {
			close(gates[key]) // the first Append gets a and c before the second gets b
			synctest.Wait()
		}
		wg.Wait()
		wantValue(t, b, "a", "set"+string(half)+string(half))
		must.Do(t, b.Close())
	})
}

// TestBufferRealMemory checks that the live heap stays near the budget with many small keys, few large keys, and long
// keys.
func TestBufferRealMemory(t *testing.T) {
	if procs.RaceEnabled {
		t.Skip("the test is slow with the race detector, and has no races to find, because only one goroutine appends")
	}
	const memory = 32 << 20
	// liveHeap returns the smallest of three measurements. Buffers that a flush allocates while
	// the collector marks count as live, even if they soon become garbage.
	liveHeap := func() int64 {
		smallest := int64(math.MaxInt64)
		for range 3 {
			runtime.GC()
			sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
			metrics.Read(sample)
			smallest = min(smallest, int64(sample[0].Value.Uint64()))
		}
		return smallest
	}
	before := liveHeap() // memory of other tests
	b := must.Get(NewBuffer(NewDict(), discardingStore{}, &BufferOptions{Memory: memory}))(t)
	check := func(label string) {
		t.Helper()
		if n := liveHeap() - before; n > memory+memory/4 {
			t.Errorf("%s: the live heap has %d MiB, want at most a quarter more than the budget of %d", label, n>>20, memory>>20)
		}
	}
	tiny := make([]Entry, 1000)
	for i := range 400 {
		for j := range tiny {
			tiny[j] = Entry{fmt.Sprint(i, "-", j), []byte("0123456789")}
		}
		must.Do(t, b.Append(ctx, tiny...))
	}
	check("after 400,000 tiny keys")
	for i := range 4000 {
		must.Do(t, b.Append(ctx, Entry{fmt.Sprint(i % 30), make([]byte, 50_000)}))
		if i%500 == 0 {
			check("after 30 large keys")
		}
	}
	for i := range 3000 {
		must.Do(t, b.Append(ctx, Entry{fmt.Sprintf("%064000d", i), []byte("x")}))
		if i%500 == 0 {
			check("after long keys")
		}
	}
	many := make([]Entry, 200_000)
	for i := range many {
		many[i] = Entry{fmt.Sprint("many", i), []byte("0123456789")}
	}
	must.Do(t, b.Append(ctx, many...))
	many = nil
	check("after a batch of 200,000")
	must.Do(t, b.Close())
}

type discardingStore struct{}

func (discardingStore) Append(context.Context, ...Entry) error { return nil }
func (discardingStore) Get(_ context.Context, keys ...string) ([][]byte, error) {
	return make([][]byte, len(keys)), nil
}
func (discardingStore) Drop(context.Context) error { return nil }
