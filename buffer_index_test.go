package partd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestBufferIsFair keeps two keys busy with gets and sets. Appends, deletes and flushes must still be served.
func TestBufferIsFair(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	b, _, slow := newFaultyBuffer(t, 1<<30)
	slow.set(func(op string) (error, error) {
		if op == "set" {
			time.Sleep(100 * time.Microsecond)
		}
		return nil, nil
	})
	for i := range 10 {
		must.Do(t, b.Append(ctx, Entry{fmt.Sprint(i), []byte("x")}))
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for g := range 12 {
		wg.Go(func() {
			for !stop.Load() {
				var err error
				if g%3 == 0 {
					_, err = b.Get(ctx, "0", "1")
				} else {
					err = b.Set(ctx, fmt.Sprint(g%2), []byte("z"))
				}
				if !must.Check(t, err) {
					return
				}
			}
		})
	}
	for range 5 {
		must.Do(t, b.Append(ctx, Entry{"0", []byte("q")}, Entry{"1", []byte("q")}))
		must.Do(t, b.Delete(ctx, "0", "1"))
		must.Do(t, b.Flush(ctx))
	}
	stop.Store(true)
	wg.Wait()
}

// TestBufferServesInOrder checks that a Get waits for a Set that began to wait for the key before it, and a Set for an
// Append.
func TestBufferServesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, _ := newFaultyBuffer(t, 1<<30)
		must.Do(t, b.Append(ctx, Entry{"x", []byte("1")}))
		set := func() { must.Check(t, b.Set(ctx, "x", []byte("2"))) }
		for _, exclusive := range []bool{false, true} {
			inUse := must.Get(b.pins.acquire(ctx, "get", []string{"x"}, exclusive, false))(t)
			ops := []func(){set, func() { wantValue(t, b, "x", "2") }}
			if exclusive { // otherwise, Append does not wait
				ops = []func(){func() { must.Check(t, b.Append(ctx, Entry{"x", []byte("3")})) }, set}
			}
			var wg sync.WaitGroup
			for _, op := range ops {
				wg.Go(op)
				synctest.Wait()
			}
			b.pins.release(inUse)
			wg.Wait()
			wantValue(t, b, "x", "2")
		}
	})
}

// TestBufferCloseEndsWaiting checks that Close ends operations that wait for a key, although the key stays in use.
func TestBufferCloseEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, _ := newFaultyBuffer(t, 1<<30)
		must.Do(t, b.Append(ctx, Entry{"x", []byte("1")}))
		pinned := must.Get(b.pins.pin(ctx, "get", []string{"x"}))(t)
		waited, closed := make(chan error, 1), make(chan error, 1)
		go func() { waited <- b.Set(ctx, "x", []byte("2")) }()
		synctest.Wait()
		go func() { closed <- b.Close() }()
		synctest.Wait()
		select {
		case err := <-waited:
			if !errors.Is(err, ErrClosed) {
				t.Errorf("Set = %v, want ErrClosed", err)
			}
		default:
			t.Error("the Set still waits")
		}
		b.pins.release(pinned)
		must.Do(t, <-closed)
	})
}

// TestBufferHoldsAKeyManyTimes passes a key 65,536 times to one Delete, which would overflow a
// 16-bit counter of the operations that hold the key.
func TestBufferHoldsAKeyManyTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, slow := newFaultyBuffer(t, 1<<30)
		must.Do(t, b.Append(ctx, Entry{"k", []byte("x")}))
		proceed := make(chan struct{})
		slow.set(func(string) (error, error) { <-proceed; return nil, nil })
		done := make(chan error, 2)
		go func() { done <- b.Flush(ctx) }()
		synctest.Wait()
		keys := make([]string, 1<<16)
		for i := range keys {
			keys[i] = "k"
		}
		go func() { done <- b.Delete(ctx, keys...) }()
		synctest.Wait()
		close(proceed)
		must.Do(t, <-done)
		must.Do(t, <-done)
		wantValue(t, b, "k", "")
		if b.pins.index.Len() != 0 || b.pins.activeOps != 0 {
			t.Errorf("the buffer still has %d keys and %d operations, want none", b.pins.index.Len(), b.pins.activeOps)
		}
	})
}

// TestBufferShowsWholeAppends checks that Get and Scan see only whole appends, even if one move to the slow store
// cannot take all data of an append.
func TestBufferShowsWholeAppends(t *testing.T) {
	for _, size := range []int{20 << 10, 100 << 10} {
		b, _, _ := newFaultyBuffer(t, 1<<20)
		value := bytes.Repeat([]byte("a"), size)
		var wg sync.WaitGroup
		stop := make(chan struct{})
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if !must.Check(t, b.Append(ctx, Entry{"k", value})) {
					return
				}
				if i%20 == 0 {
					_ = b.Delete(ctx, "k")
				}
			}
		})
		for range 200 {
			got := must.Get(b.Get(ctx, "k"))(t)
			if len(got[0])%size != 0 {
				t.Fatalf("Get returned %d bytes, want a multiple of the append's %d", len(got[0]), size)
			}
			for c, err := range b.Scan(ctx) {
				must.Do(t, err)
				if n := int(c.Offset) + len(c.Data); c.Last && n%size != 0 {
					t.Fatalf("Scan yielded %d bytes, want a multiple of the append's %d", n, size)
				}
			}
		}
		close(stop)
		wg.Wait()
	}
}

// unsureStore is a slow store whose Append returns ErrUnknownOutcome if the context ends.
type unsureStore struct{ *Dict }

func (d unsureStore) Append(ctx context.Context, e ...Entry) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
	case <-time.After(time.Second):
		return d.Dict.Append(ctx, e...)
	}
}

// TestBufferMoveHonorsDeadline ends the context of operations that move data. The operations must
// return immediately and leave no key in doubt, and the data that they move must arrive.
func TestBufferMoveHonorsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := must.Get(NewBuffer(NewDict(), unsureStore{NewDict()}, nil))(t)
		for i, op := range []func(ctx context.Context) error{
			func(ctx context.Context) error { _, err := b.Stat(ctx); return err },
			b.Flush,
			func(ctx context.Context) error { _, err := b.Open(ctx, "k"); return err },
		} {
			must.Do(t, b.Append(ctx, Entry{"k", []byte{byte('a' + i)}}))
			shortCtx, cancel := context.WithTimeout(ctx, time.Millisecond)
			start := time.Now()
			if err := op(shortCtx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnknownOutcome) {
				t.Errorf("operation %d: error %v, want only DeadlineExceeded", i, err)
			}
			if took := time.Since(start); took > 10*time.Millisecond {
				t.Errorf("operation %d took %v, want at most 10ms", i, took)
			}
			cancel()
			wantValue(t, b, "k", "abc"[:i+1])
		}
		must.Do(t, b.Close())
	})
}

// TestBufferEmptyKeys checks that a key with an empty value in the fast store is kept, and that
// appending an empty value does not wait for an operation that holds the key.
func TestBufferEmptyKeys(t *testing.T) {
	fast := NewDict()
	must.Do(t, fast.Set(ctx, "e", nil))
	b := must.Get(NewBuffer(fast, NewDict(), nil))(t)
	var keys []string
	for info, err := range b.Keys(ctx) {
		must.Do(t, err)
		keys = append(keys, info.Key)
	}
	if len(keys) != 1 || keys[0] != "e" {
		t.Errorf("Keys() = %q, want only the empty key %q of the fast store", keys, "e")
	}
	held := must.Get(b.pins.hold(ctx, "test", []string{"k"}, false))(t)
	must.Do(t, b.Append(ctx, Entry{"new", []byte("n")}, Entry{"k", nil}))
	b.pins.release(held)
}

// TestBufferCanceledSetUnblocksGet queues a Set after a running Get, and a second Get after the
// Set. When the Set is canceled, the second Get must no longer wait for the first.
func TestBufferCanceledSetUnblocksGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, _ := newFaultyBuffer(t, 1<<30)
		must.Do(t, b.Append(ctx, Entry{"k", []byte("v")}))
		first := must.Get(b.pins.pin(ctx, "get", []string{"k"}))(t)
		shortCtx, cancel := context.WithCancel(ctx)
		set, get := make(chan error, 1), make(chan error, 1)
		go func() { set <- b.Set(shortCtx, "k", []byte("w")) }()
		synctest.Wait()
		go func() { _, err := b.Get(ctx, "k"); get <- err }()
		synctest.Wait()
		select {
		case <-get:
			t.Error("a Get overtook a Set that had waited longer")
		default:
		}
		cancel()
		must.Fail(t, <-set, context.Canceled, "canceled Set")
		must.Do(t, <-get)
		b.pins.release(first)
	})
}
