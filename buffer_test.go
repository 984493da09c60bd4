package partd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// faultyDict is a Dict whose operations fail with the errors that fail returns. An operation with the error before
// changes nothing. An operation with the error after takes effect, but returns the error.
type faultyDict struct {
	*Dict
	mu   sync.Mutex
	fail func(op string) (before, after error)
}

func (f *faultyDict) do(op string, call func() error) error {
	f.mu.Lock()
	fail := f.fail
	f.mu.Unlock()
	if fail == nil {
		return call()
	}
	before, after := fail(op)
	if before != nil {
		return before
	}
	return errors.Join(call(), after)
}

func (f *faultyDict) Append(ctx context.Context, e ...Entry) error {
	return f.do("append", func() error { return f.Dict.Append(ctx, e...) })
}

func (f *faultyDict) Delete(ctx context.Context, keys ...string) error {
	return f.do("delete", func() error { return f.Dict.Delete(ctx, keys...) })
}

func (f *faultyDict) Set(ctx context.Context, key string, value []byte) error {
	return f.do("set", func() error { return f.Dict.Set(ctx, key, value) })
}

func (f *faultyDict) Drop(ctx context.Context) error {
	return f.do("drop", func() error { return f.Dict.Drop(ctx) })
}

func (f *faultyDict) set(fail func(op string) (before, after error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func newFaultyBuffer(t *testing.T, memory int64) (b *Buffer, fast, slow *faultyDict) {
	t.Helper()
	fast, slow = &faultyDict{Dict: NewDict()}, &faultyDict{Dict: NewDict()}
	b, err := NewBuffer(fast, slow, &BufferOptions{Memory: memory})
	if err != nil {
		t.Fatal(err)
	}
	return b, fast, slow
}

func wantValue(t *testing.T, store Partd, key, want string) {
	t.Helper()
	got, err := store.Get(context.Background(), key)
	if err != nil {
		t.Errorf("Get(%q): %v", key, err)
	} else if string(got[0]) != want {
		t.Errorf("Get(%q) = %.200q, want %.200q", key, got[0], want)
	}
}

var errDisk = errors.New("the disk is full")

// TestBufferFlushFails checks that data stays readable while the slow store rejects it, and is flushed later.
func TestBufferFlushFails(t *testing.T) {
	ctx := context.Background()
	b, _, slow := newFaultyBuffer(t, 1<<30)
	must(t, b.Append(ctx, Entry{"k", []byte("one")}, Entry{"l", []byte("uno")}))
	slow.set(func(string) (error, error) { return errDisk, nil })
	if err := b.Flush(ctx); !errors.Is(err, errDisk) {
		t.Fatalf("Flush: error %v, want %v", err, errDisk)
	}
	if err := b.Close(); !errors.Is(err, errDisk) {
		t.Fatalf("Close: error %v, want %v", err, errDisk)
	}
	wantValue(t, b, "k", "one")
	must(t, b.Append(ctx, Entry{"k", []byte("two")}))
	slow.set(nil)
	must(t, b.Flush(ctx))
	wantValue(t, slow, "k", "onetwo")
	wantValue(t, slow, "l", "uno")
	must(t, b.Close())
}

// TestBufferDeleteFails checks that values stay correct while the fast store cannot delete keys that have been flushed.
func TestBufferDeleteFails(t *testing.T) {
	ctx := context.Background()
	b, fast, slow := newFaultyBuffer(t, 1<<30)
	must(t, b.Append(ctx, Entry{"k", []byte("one")}))
	fast.set(func(op string) (error, error) {
		if op == "delete" {
			return errDisk, nil
		}
		return nil, nil
	})
	for range 3 {
		if err := b.Flush(ctx); !errors.Is(err, errDisk) {
			t.Fatalf("Flush: error %v, want %v from Delete", err, errDisk)
		}
		wantValue(t, b, "k", "one")
		wantValue(t, slow, "k", "one")
	}
	must(t, b.Append(ctx, Entry{"k", []byte("two")}))
	wantValue(t, b, "k", "onetwo")
	must(t, b.Delete(ctx, "k"))
	if exists, err := b.HasKey(ctx, "k"); err != nil || exists {
		t.Errorf("HasKey of a deleted key = %v, %v, want false", exists, err)
	}
	must(t, b.SetOnce(ctx, "k", []byte("once")))
	wantValue(t, b, "k", "once")
	must(t, b.Set(ctx, "k", []byte("new")))
	wantValue(t, b, "k", "new")
	must(t, b.Append(ctx, Entry{"k", []byte("er")}))
	wantValue(t, b, "k", "newer")
	fast.set(nil)
	must(t, b.Flush(ctx))
	wantValue(t, slow, "k", "newer")
	wantValue(t, fast, "k", "")
}

// TestBufferUnknownOutcome checks that an append with an unknown outcome is not retried, whether or not it took
// effect.
func TestBufferUnknownOutcome(t *testing.T) {
	ctx := context.Background()
	for _, applied := range []bool{false, true} {
		b, _, slow := newFaultyBuffer(t, 1<<30)
		must(t, b.Append(ctx, Entry{"k", []byte("one")}))
		slow.set(func(string) (error, error) {
			if applied {
				return nil, ErrUnknownOutcome
			}
			return ErrUnknownOutcome, nil
		})
		if err := b.Flush(ctx); err == nil || errors.Is(err, ErrUnknownOutcome) {
			t.Fatalf("Flush: error %v, want an error that does not wrap ErrUnknownOutcome", err)
		}
		slow.set(nil)
		if err := b.Flush(ctx); !errors.Is(err, errInDoubt) {
			t.Fatalf("second Flush: error %v, want errInDoubt", err)
		}
		if _, err := b.Get(ctx, "k"); !errors.Is(err, errInDoubt) {
			t.Fatalf("Get: error %v, want errInDoubt", err)
		}
		if err := b.Append(ctx, Entry{"k", []byte("two")}); !errors.Is(err, errInDoubt) {
			t.Fatalf("Append: error %v, want errInDoubt", err)
		}
		wantValue(t, slow, "k", strings.Repeat("one", map[bool]int{true: 1}[applied]))
		must(t, b.Append(ctx, Entry{"other", []byte("x")}))
		must(t, b.Delete(ctx, "k"))
		wantValue(t, b, "k", "")
		must(t, b.Append(ctx, Entry{"k", []byte("two")}))
		must(t, b.Close())
	}
}

// TestBufferCloseReportsDoubt checks that Close returns an error if it is unknown whether the slow store has all data.
func TestBufferCloseReportsDoubt(t *testing.T) {
	ctx := context.Background()
	b, _, slow := newFaultyBuffer(t, 1<<30)
	must(t, b.Append(ctx, Entry{"k", []byte("one")}))
	slow.set(func(string) (error, error) { return ErrUnknownOutcome, nil })
	if err := b.Flush(ctx); err == nil {
		t.Fatal("Flush: no error, want one, because its outcome is unknown")
	}
	slow.set(nil)
	if err := b.Close(); !errors.Is(err, errInDoubt) {
		t.Fatalf("Close: error %v, want errInDoubt", err)
	}
}

type failingFlusher struct{ *Dict }

func (failingFlusher) Flush(context.Context) error { return errDisk }

// TestBufferSlowFlushFails checks that Flush returns the error of the slow store's Flush.
func TestBufferSlowFlushFails(t *testing.T) {
	b, err := NewBuffer(NewDict(), failingFlusher{NewDict()}, nil)
	must(t, err)
	if err := b.Flush(context.Background()); !errors.Is(err, errDisk) {
		t.Fatalf("Flush: error %v, want %v", err, errDisk)
	}
}

// TestBufferSetOfUnknownOutcome sets a key with buffered data, and the outcome of the Set is
// unknown. Reads of the key must fail until another Set.
func TestBufferSetOfUnknownOutcome(t *testing.T) {
	ctx := context.Background()
	b, _, slow := newFaultyBuffer(t, 1<<30)
	must(t, b.Append(ctx, Entry{"k", []byte("one")}))
	slow.set(func(string) (error, error) { return nil, ErrUnknownOutcome })
	if err := b.Set(ctx, "k", []byte("new")); !errors.Is(err, ErrUnknownOutcome) {
		t.Fatalf("Set: error %v, want ErrUnknownOutcome", err)
	}
	slow.set(nil)
	if v, err := b.Get(ctx, "k"); !errors.Is(err, errInDoubt) {
		t.Fatalf("Get = %q, %v, want errInDoubt, because it is unknown which value the store has", v, err)
	}
	must(t, b.Set(ctx, "k", []byte("newer")))
	wantValue(t, b, "k", "newer")
}

// TestBufferFullReportsFailure checks that an Append to a full buffer returns the error of the slow store, and
// changes nothing.
func TestBufferFullReportsFailure(t *testing.T) {
	ctx := context.Background()
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
	must(t, b.Append(ctx, Entry{fmt.Sprint(stored), value}))
	must(t, b.Flush(ctx))
	st, err := Stat(ctx, slow.Dict)
	must(t, err)
	if st.Keys != int64(stored+1) || st.Bytes != int64((stored+1)*len(value)) {
		t.Errorf("the slow store has %d keys with %d bytes, want %d with %d", st.Keys, st.Bytes, stored+1, (stored+1)*len(value))
	}
}

// TestBufferDropFails checks that Drop changes nothing if the slow store fails, and works if only the fast store fails.
func TestBufferDropFails(t *testing.T) {
	ctx := context.Background()
	b, fast, slow := newFaultyBuffer(t, 1<<30)
	must(t, b.Append(ctx, Entry{"k", []byte("one")}))
	slow.set(func(string) (error, error) { return errDisk, nil })
	if err := b.Drop(ctx); !errors.Is(err, errDisk) {
		t.Fatalf("Drop while the slow store fails: error %v, want %v", err, errDisk)
	}
	wantValue(t, b, "k", "one")
	slow.set(nil)
	fast.set(func(op string) (error, error) {
		if op == "drop" {
			return errDisk, nil
		}
		return nil, nil
	})
	must(t, b.Drop(ctx))
	wantValue(t, b, "k", "")
	must(t, b.Append(ctx, Entry{"k", []byte("two")}))
	wantValue(t, b, "k", "two")
	must(t, b.Flush(ctx))
	wantValue(t, slow, "k", "two")

	fast.set(nil)
	must(t, b.Append(ctx, Entry{"k", []byte("three")}))
	slow.set(func(string) (error, error) { return nil, ErrUnknownOutcome })
	if err := b.Drop(ctx); !errors.Is(err, ErrUnknownOutcome) {
		t.Fatalf("Drop of unknown outcome: error %v, want ErrUnknownOutcome", err)
	}
	slow.set(nil)
	if v, err := b.Get(ctx, "k"); !errors.Is(err, errInDoubt) {
		t.Fatalf("Get after a Drop of unknown outcome = %q, %v, want errInDoubt", v, err)
	}
}

func TestNewBufferKeepsFastData(t *testing.T) {
	ctx := context.Background()
	fast, slow := NewDict(), NewDict()
	must(t, slow.Append(ctx, Entry{"k", []byte("old")}))
	must(t, fast.Append(ctx, Entry{"k", []byte("new")}))
	b, err := NewBuffer(fast, slow, nil)
	must(t, err)
	wantValue(t, b, "k", "oldnew")
	must(t, b.Flush(ctx))
	wantValue(t, slow, "k", "oldnew")
}

func TestNewBufferRejectsArguments(t *testing.T) {
	type bare struct{ Partd }
	if _, err := NewBuffer(bare{NewDict()}, NewDict(), nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("NewBuffer with a fast store that cannot delete: error %v, want ErrUnsupported", err)
	}
	if _, err := NewBuffer(NewDict(), NewDict(), &BufferOptions{Memory: -1}); err == nil {
		t.Error("NewBuffer accepted a negative budget")
	}
	if _, err := NewBuffer(nil, NewDict(), nil); err == nil {
		t.Error("NewBuffer accepted nil as the fast store")
	}
}

// TestBufferOtherKeysDoNotWait checks that while a flush hangs, only operations on the moving key wait.
func TestBufferOtherKeysDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		b, _, slow := newFaultyBuffer(t, 1<<30)
		must(t, b.Append(ctx, Entry{"k", []byte("one")}))
		proceed := make(chan struct{})
		slow.set(func(string) (error, error) { <-proceed; return nil, nil })
		done := make(chan error, 2)
		go func() { done <- b.Flush(ctx) }()
		synctest.Wait()
		must(t, b.Append(ctx, Entry{"other", []byte("x")}))
		wantValue(t, b, "other", "x")
		shortCtx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := b.Get(shortCtx, "k"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get of a moving key: error %v, want it to wait until the deadline", err)
		}
		go func() { done <- b.Append(ctx, Entry{"k", []byte("two")}) }()
		synctest.Wait()
		close(proceed)
		must(t, <-done)
		must(t, <-done)
		wantValue(t, b, "k", "onetwo")
		must(t, b.Close())
	})
}

// TestBufferKeepsBudget checks that the used memory stays near the budget while far more data is appended.
func TestBufferKeepsBudget(t *testing.T) {
	ctx := context.Background()
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
		must(t, b.Append(ctx, entries...))
		if used := b.MemoryUsed(); used > memory+memory/8 {
			t.Fatalf("MemoryUsed() = %d, want at most an eighth more than the budget of %d", used, memory)
		}
	}
	must(t, b.Flush(ctx))
	st, err := Stat(ctx, slow.Dict)
	must(t, err)
	if st.Bytes != sum {
		t.Errorf("the slow store has %d bytes, want %d", st.Bytes, sum)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
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
		b, err := NewBuffer(NewDict(), slow, &BufferOptions{Memory: memory})
		must(t, err)
		entries := make([]Entry, batch)
		for start := 0; start < total; start += batch {
			for i := range entries {
				entries[i] = Entry{fmt.Sprint((start + i) % keys), fmt.Appendf(nil, "%0*d", size, start+i)}
			}
			must(t, b.Append(t.Context(), entries...))
			if used := b.MemoryUsed(); used > memory+memory/4 {
				t.Fatalf("batches of %d: MemoryUsed() = %d, want at most a quarter more than the budget of %d", batch, used, memory)
			}
		}
		must(t, b.Flush(t.Context()))
		pieces[batch] = slow.pieces.Load()
		got, err := slow.Get(t.Context(), "7")
		must(t, err)
		for i := range total / keys {
			if want := fmt.Sprintf("%0*d", size, 7+i*keys); string(got[0][i*size:][:size]) != want {
				t.Fatalf("batches of %d: row %d of key 7 differs from %s", batch, i, want)
			}
		}
		must(t, b.Close())
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
	b, err := NewBuffer(NewDict(), slow, &BufferOptions{Memory: 8 << 20})
	must(t, err)
	must(t, b.Append(t.Context(), Entry{"a", []byte("first, ")}, Entry{"b", []byte("other")}))
	large := slices.Repeat([]Entry{{"a", bytes.Repeat([]byte{'x'}, 50_000)}}, 20)
	must(t, b.Append(t.Context(), large...))
	if n := slow.pieces.Load(); n != 1+20 {
		t.Errorf("the slow store received %d pieces, want 21", n)
	}
	if used := b.MemoryUsed(); used > 1<<20 {
		t.Errorf("MemoryUsed() = %d, want at most 1 MiB", used)
	}
	wantValue(t, b, "a", "first, "+strings.Repeat("x", 20*50_000))
	wantValue(t, b, "b", "other")
	must(t, b.Close())
}

// TestBufferSetWaits checks that Set waits until no other operation uses its key.
func TestBufferSetWaits(t *testing.T) {
	ctx := context.Background()
	b, _, _ := newFaultyBuffer(t, 1<<20)
	must(t, b.Append(ctx, Entry{Key: "k", Value: []byte("v")}))
	parts, err := b.pin(ctx, "test", []string{"k"})
	must(t, err)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := b.Set(short, "k", []byte("w")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Set of a key in use = %v, want DeadlineExceeded", err)
	}
	b.release(parts)
	must(t, b.Set(ctx, "k", []byte("w")))
}
