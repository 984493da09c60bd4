package partd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestBufferDropExcludes starts operations while Drop waits and while it runs, and cancels some. None may hang, and
// the last Append must take effect after the drop.
func TestBufferDropExcludes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, slow := newFaultyBuffer(t, 1<<30)
		must.Do(t, b.Append(ctx, Entry{"x", []byte("1")}))
		pinned := must.Get(b.pins.pin(ctx, "get", []string{"x"}))(t)
		proceed := make(chan struct{})
		var isDropping atomic.Bool
		slow.set(func(op string) (error, error) {
			if op == "drop" {
				isDropping.Store(true)
				<-proceed
			}
			return nil, nil
		})
		dropped := make(chan error, 1)
		go func() { dropped <- b.Drop(ctx) }()
		synctest.Wait() // Drop waits for the pin
		if isDropping.Load() {
			t.Error("Drop did not wait for a running operation")
		}
		canceledCtx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		for i, op := range []func(ctx context.Context) error{
			func(ctx context.Context) error { return b.Delete(ctx, "k") },
			func(ctx context.Context) error { return b.Set(ctx, "x", []byte("2")) },
			func(ctx context.Context) error { return b.Append(ctx, Entry{"x", []byte("3")}) },
			func(ctx context.Context) error { _, err := b.Get(ctx, "x"); return err },
			func(ctx context.Context) error { _, err := b.Pop(ctx, "x", "k"); return err },
			func(ctx context.Context) error { return b.Drop(ctx) },
		} {
			wg.Go(func() {
				must.Fail(t, op(canceledCtx), context.Canceled, "operation %d during Drop", i)
			})
		}
		later := make(chan error, 1)
		go func() { later <- b.Append(ctx, Entry{"x", []byte("after")}) }()
		synctest.Wait()
		b.pins.release(pinned)
		synctest.Wait() // the slow store runs the drop
		cancel()
		wg.Wait()
		select {
		case <-later:
			t.Error("Append returned while Drop was running, want it to wait")
		default:
		}
		close(proceed)
		must.Do(t, <-dropped)
		must.Do(t, <-later)
		wantValue(t, b, "x", "after")
	})
}

// TestBufferDropCanceled checks that operations work after a waiting Drop was canceled.
func TestBufferDropCanceled(t *testing.T) {
	b, _, _ := newFaultyBuffer(t, 1<<30)
	must.Do(t, b.Append(ctx, Entry{"x", []byte("1")}))
	pinned := must.Get(b.pins.pin(ctx, "get", []string{"x"}))(t)
	shortCtx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := b.Drop(shortCtx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Drop of a buffer with a pinned key: error %v, want DeadlineExceeded", err)
	}
	b.pins.release(pinned)
	must.Do(t, b.Append(ctx, Entry{"x", []byte("2")}))
	wantValue(t, b, "x", "12")
}

// TestBufferDropDuringChanges drops concurrently with other operations, for the race detector.
func TestBufferDropDuringChanges(t *testing.T) {
	b, _, _ := newFaultyBuffer(t, 1<<20)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1500 {
				key := fmt.Sprint(g, i%20)
				cancelCtx, cancel := context.WithCancel(ctx)
				if i%5 == 0 {
					go cancel()
				}
				_ = b.Set(cancelCtx, key, []byte("v"))
				_ = b.Append(cancelCtx, Entry{key, make([]byte, i)})
				_ = b.Delete(cancelCtx, key, fmt.Sprint(g+1, i%20))
				_, _ = b.Pop(cancelCtx, key)
				cancel()
			}
		})
	}
	for range 100 {
		must.Do(t, b.Drop(ctx))
	}
	wg.Wait()
	must.Do(t, b.Drop(ctx))
	must.Do(t, b.Append(ctx, Entry{"k", []byte("v")}))
	wantValue(t, b, "k", "v")
	must.Do(t, b.Close())
}

// TestBufferDropBetweenSteps drops between two appends of a background flush. The second append
// must not run after the drop.
func TestBufferDropBetweenSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, slow := newFaultyBuffer(t, 4<<20)
		var mu sync.Mutex
		var ops []string
		proceed := make(chan struct{})
		slow.set(func(op string) (error, error) {
			mu.Lock()
			ops = append(ops, op)
			mu.Unlock()
			<-proceed
			return nil, nil
		})
		started := func() bool {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return len(ops) > 0
		}
		for i := 0; !started(); i++ {
			must.Do(t, b.Append(ctx, Entry{fmt.Sprint(i), make([]byte, 40_000)}))
		}
		dropped := make(chan error, 1)
		go func() { dropped <- b.Drop(ctx) }()
		synctest.Wait()
		proceed <- struct{}{} // the first append ends, and the drop begins
		synctest.Wait()
		mu.Lock()
		if len(ops) < 2 || ops[len(ops)-1] != "drop" {
			t.Errorf("calls to the slow store: %v, want appends and then one drop", ops)
		}
		mu.Unlock()
		close(proceed)
		must.Do(t, <-dropped)
		synctest.Wait()
		must.Do(t, b.Flush(ctx))
		st := must.Get(Stat(ctx, slow.Dict))(t)
		if st.Keys != 0 {
			t.Errorf("the slow store has %d keys after the drop, want 0", st.Keys)
		}
	})
}

// TestBufferFlushFails checks that data stays readable while the slow store rejects it, and is flushed later.
func TestBufferFlushFails(t *testing.T) {
	b, _, slow := newFaultyBuffer(t, 1<<30)
	must.Do(t, b.Append(ctx, Entry{"k", []byte("one")}, Entry{"l", []byte("uno")}))
	slow.set(func(string) (error, error) { return errDisk, nil })
	if err := b.Flush(ctx); !errors.Is(err, errDisk) {
		t.Fatalf("Flush: error %v, want %v", err, errDisk)
	}
	if err := b.Close(); !errors.Is(err, errDisk) {
		t.Fatalf("Close: error %v, want %v", err, errDisk)
	}
	wantValue(t, b, "k", "one")
	must.Do(t, b.Append(ctx, Entry{"k", []byte("two")}))
	slow.set(nil)
	must.Do(t, b.Flush(ctx))
	wantValue(t, slow, "k", "onetwo")
	wantValue(t, slow, "l", "uno")
	must.Do(t, b.Close())
}

// TestBufferCloseReportsDoubt checks that Close returns an error if it is unknown whether the slow store has all data.
func TestBufferCloseReportsDoubt(t *testing.T) {
	b, _, slow := newFaultyBuffer(t, 1<<30)
	must.Do(t, b.Append(ctx, Entry{"k", []byte("one")}))
	slow.set(func(string) (error, error) { return ErrUnknownOutcome, nil })
	if err := b.Flush(ctx); err == nil {
		t.Fatal("Flush: no error, want one, because its outcome is unknown")
	}
	slow.set(nil)
	must.Fail(t, b.Close(), errInDoubt, "Close")
}

type failingFlusher struct{ *Dict }

func (failingFlusher) Flush(context.Context) error { return errDisk }

// flushedDict fails the first append and counts flushes.
type flushedDict struct {
	faultyDict
	flushes, appends int
}

func (f *flushedDict) Append(ctx context.Context, e ...Entry) error {
	f.appends++
	if f.appends == 1 {
		return errDisk
	}
	return f.Dict.Append(ctx, e...)
}

func (f *flushedDict) Flush(context.Context) error {
	f.flushes++
	return nil
}

// TestBufferCloseFlushes checks that Close succeeds if only its first flush fails, and that the slow store is flushed
// once, after the data has moved. It returns the error of the slow store's flush, but then closes the stores.
func TestBufferCloseFlushes(t *testing.T) {
	slow := &flushedDict{faultyDict: faultyDict{Dict: NewDict()}}
	b := must.Get(NewBuffer(NewDict(), &keptOpen{slow}, nil))(t)
	must.Do(t, b.Append(ctx, Entry{"k", []byte("one")}))
	must.Do(t, Close(ctx, b))
	wantValue(t, slow, "k", "one")
	if slow.flushes != 1 || slow.appends != 2 {
		t.Errorf("the slow store got %d flushes and %d appends, want 1 and 2", slow.flushes, slow.appends)
	}
	for name, closeStore := range map[string]func(b *Buffer) error{
		"Close": func(b *Buffer) error { return Close(ctx, b) }, "Buffer.Close": (*Buffer).Close,
	} {
		failing := failingFlusher{NewDict()}
		b := must.Get(NewBuffer(NewDict(), failing, nil))(t)
		must.Do(t, b.Append(ctx, Entry{"k", []byte("one")}))
		must.Fail(t, closeStore(b), errDisk, "%s of a Buffer whose slow store cannot flush", name)
		must.Fail(t, failing.Drop(ctx), ErrClosed, "Drop of the slow store after %s", name)
	}
}

// TestBufferCloseAfterEndedFlush checks that Close flushes the slow store if the context of Close ended before that, even
// if all data had moved before.
func TestBufferCloseAfterEndedFlush(t *testing.T) {
	b := must.Get(NewBuffer(NewDict(), failingFlusher{NewDict()}, nil))(t)
	must.Do(t, b.Append(ctx, Entry{"k", []byte("one")}))
	for _, err := range b.Keys(ctx) { // moves the data
		must.Do(t, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	must.Fail(t, Close(ended, b), errDisk, "Close with a canceled context, of a Buffer whose slow store cannot flush")
}

// keptOpen has no Close, so that a test can read the store afterwards.
type keptOpen struct{ store *flushedDict }

func (k *keptOpen) Append(ctx context.Context, e ...Entry) error { return k.store.Append(ctx, e...) }
func (k *keptOpen) Drop(ctx context.Context) error               { return k.store.Drop(ctx) }
func (k *keptOpen) Flush(ctx context.Context) error              { return k.store.Flush(ctx) }
func (k *keptOpen) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	return k.store.Get(ctx, keys...)
}

// TestCloseOfFlusher checks that Close flushes a store even if it cannot be closed, or its layer cannot.
func TestCloseOfFlusher(t *testing.T) {
	store := struct {
		Partd
		Flusher
	}{NewDict(), failingFlusher{}}
	err := Close(ctx, store)
	must.Fail(t, err, errDisk, "Close of a store without Close")
	if errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Close = %v, which callers may ignore", err)
	}
}

// TestBufferSlowFlushFails checks that Flush returns the error of the slow store's Flush.
func TestBufferSlowFlushFails(t *testing.T) {
	b := must.Get(NewBuffer(NewDict(), failingFlusher{NewDict()}, nil))(t)
	must.Fail(t, b.Flush(context.Background()), errDisk, "Flush")
}

// TestBufferDropFails checks that Drop changes nothing if the slow store fails, and works if only the fast store fails.
func TestBufferDropFails(t *testing.T) {
	b, fast, slow := newFaultyBuffer(t, 1<<30)
	must.Do(t, b.Append(ctx, Entry{"k", []byte("one")}))
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
	must.Do(t, b.Drop(ctx))
	wantValue(t, b, "k", "")
	must.Do(t, b.Append(ctx, Entry{"k", []byte("two")}))
	wantValue(t, b, "k", "two")
	must.Do(t, b.Flush(ctx))
	wantValue(t, slow, "k", "two")

	fast.set(nil)
	must.Do(t, b.Append(ctx, Entry{"k", []byte("three")}))
	slow.set(func(string) (error, error) { return nil, ErrUnknownOutcome })
	if err := b.Drop(ctx); !errors.Is(err, ErrUnknownOutcome) {
		t.Fatalf("Drop of unknown outcome: error %v, want ErrUnknownOutcome", err)
	}
	slow.set(nil)
	if v, err := b.Get(ctx, "k"); !errors.Is(err, errInDoubt) {
		t.Fatalf("Get after a Drop of unknown outcome = %q, %v, want errInDoubt", v, err)
	}
}

// TestBufferMoveLength checks that a flush holds only the keys of one move at a time, so that others need not wait for
// all of them.
func TestBufferMoveLength(t *testing.T) {
	b, _, _ := newFaultyBuffer(t, 1<<20)
	must.Do(t, b.Append(ctx, Entry{"a", make([]byte, b.mover.moveSize/2)}, Entry{"b", make([]byte, b.mover.moveSize/2)}))
	if n := b.mover.nextMoveLen([]string{"a", "b", "c"}); n != 1 {
		t.Errorf("one move takes %d keys, want 1: with their names, two keys are larger than a move", n)
	}
}

// TestBufferStaleDataInMoves checks that data which a failed deletion left in the fast store does not count towards the
// size of the next append to the slow store.
func TestBufferStaleDataInMoves(t *testing.T) {
	for _, keys := range [][]string{{"a", "b"}, {"b", "a"}} {
		b, fast, slow := newFaultyBuffer(t, 1<<20)
		stale := strings.Repeat("x", b.mover.moveSize/2-1)
		fast.set(func(op string) (before, after error) {
			if op == "delete" {
				before = errDisk
			}
			return before, nil
		})
		must.Do(t, b.Append(ctx, Entry{"b", []byte(stale)}))
		must.Fail(t, b.Flush(ctx), errDisk, "Flush while the fast store deletes nothing")
		fast.set(nil)
		must.Do(t, b.Append(ctx, Entry{"a", []byte("one")}, Entry{"b", []byte("2")}))
		appends := 0
		slow.set(func(string) (error, error) { appends++; return nil, nil })
		must.Do(t, b.mover.moveKeys(ctx, "flush", keys))
		if appends != 1 {
			t.Errorf("four bytes of the keys %q moved in %d appends, want 1", keys, appends)
		}
		wantValue(t, slow, "a", "one")
		wantValue(t, slow, "b", stale+"2")
	}
}

// TestBufferCloseDuringFlush closes a healthy Buffer while a background flush moves keys. Close must log no failed
// flush.
func TestBufferCloseDuringFlush(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			b, _, slow := newFaultyBuffer(t, 1<<20)
			var log bytes.Buffer
			b.flusher.log = slog.New(slog.NewTextHandler(&log, nil))
			proceed := make(chan struct{})
			slow.set(func(string) (error, error) { <-proceed; return nil, nil })
			for i := range 6 {
				must.Do(t, b.Append(ctx, Entry{fmt.Sprint(i), make([]byte, b.mover.moveSize/2+1)}))
				synctest.Wait() // the first key begins to move
			}
			closed := make(chan error, 1)
			go func() { closed <- b.Close() }()
			synctest.Wait()
			close(proceed)
			must.Do(t, <-closed)
			synctest.Wait()
			if log.Len() > 0 {
				t.Errorf("Close of a healthy Buffer logged %s", log.String())
			}
		})
	}
}
