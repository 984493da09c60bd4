package partd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// ctx is the context of tests that do not cancel operations.
var ctx = context.Background()

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
	b = must.Get(NewBuffer(fast, slow, &BufferOptions{Memory: memory}))(t)
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

// TestBufferDeleteFails checks that values stay correct while the fast store cannot delete keys that have been flushed.
func TestBufferDeleteFails(t *testing.T) {
	b, fast, slow := newFaultyBuffer(t, 1<<30)
	must.Do(t, b.Append(ctx, Entry{"k", []byte("one")}))
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
	must.Do(t, b.Append(ctx, Entry{"k", []byte("two")}))
	wantValue(t, b, "k", "onetwo")
	must.Do(t, b.Delete(ctx, "k"))
	if exists, err := b.HasKey(ctx, "k"); err != nil || exists {
		t.Errorf("HasKey of a deleted key = %v, %v, want false", exists, err)
	}
	must.Do(t, b.SetOnce(ctx, "k", []byte("once")))
	wantValue(t, b, "k", "once")
	must.Do(t, b.Set(ctx, "k", []byte("new")))
	wantValue(t, b, "k", "new")
	must.Do(t, b.Append(ctx, Entry{"k", []byte("er")}))
	wantValue(t, b, "k", "newer")
	fast.set(nil)
	must.Do(t, b.Flush(ctx))
	wantValue(t, slow, "k", "newer")
	wantValue(t, fast, "k", "")
}

// TestBufferUnknownOutcome checks that an append with an unknown outcome is not retried, whether or not it took
// effect.
func TestBufferUnknownOutcome(t *testing.T) {
	for _, applied := range []bool{false, true} {
		b, _, slow := newFaultyBuffer(t, 1<<30)
		must.Do(t, b.Append(ctx, Entry{"k", []byte("one")}))
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
		must.Do(t, b.Append(ctx, Entry{"other", []byte("x")}))
		must.Do(t, b.Delete(ctx, "k"))
		wantValue(t, b, "k", "")
		must.Do(t, b.Append(ctx, Entry{"k", []byte("two")}))
		must.Do(t, b.Close())
	}
}

// TestBufferSetOfUnknownOutcome sets a key with buffered data, and the outcome of the Set is
// unknown. Reads of the key must fail until another Set.
func TestBufferSetOfUnknownOutcome(t *testing.T) {
	b, _, slow := newFaultyBuffer(t, 1<<30)
	must.Do(t, b.Append(ctx, Entry{"k", []byte("one")}))
	slow.set(func(string) (error, error) { return nil, ErrUnknownOutcome })
	if err := b.Set(ctx, "k", []byte("new")); !errors.Is(err, ErrUnknownOutcome) {
		t.Fatalf("Set: error %v, want ErrUnknownOutcome", err)
	}
	slow.set(nil)
	if v, err := b.Get(ctx, "k"); !errors.Is(err, errInDoubt) {
		t.Fatalf("Get = %q, %v, want errInDoubt, because it is unknown which value the store has", v, err)
	}
	must.Do(t, b.Set(ctx, "k", []byte("newer")))
	wantValue(t, b, "k", "newer")
}

func TestNewBufferKeepsFastData(t *testing.T) {
	fast, slow := NewDict(), NewDict()
	must.Do(t, slow.Append(ctx, Entry{"k", []byte("old")}))
	must.Do(t, fast.Append(ctx, Entry{"k", []byte("new")}))
	b := must.Get(NewBuffer(fast, slow, nil))(t)
	wantValue(t, b, "k", "oldnew")
	must.Do(t, b.Flush(ctx))
	wantValue(t, slow, "k", "oldnew")
}

// TestNewBufferRepeatsAfterKill shows what NewBuffer documents: if a process is killed between the append to the slow
// store and the deletion from a fast store that survives, a new Buffer returns the data twice.
func TestNewBufferRepeatsAfterKill(t *testing.T) {
	b, fast, slow := newFaultyBuffer(t, 1<<30)
	must.Do(t, b.Append(ctx, Entry{"moving", []byte("one")}))
	killed := make(chan struct{})
	fast.set(func(op string) (error, error) {
		if op == "delete" {
			close(killed)
			<-t.Context().Done() // the process never continues
		}
		return nil, nil
	})
	go func() { _ = b.Flush(ctx) }()
	<-killed
	must.Do(t, fast.Dict.Append(ctx, Entry{"waiting", []byte("two")})) // had not begun to move
	next := must.Get(NewBuffer(fast.Dict, slow, nil))(t)
	wantValue(t, next, "moving", "oneone")
	wantValue(t, next, "waiting", "two")
	must.Do(t, next.Close())
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
		b, _, slow := newFaultyBuffer(t, 1<<30)
		must.Do(t, b.Append(ctx, Entry{"k", []byte("one")}))
		proceed := make(chan struct{})
		slow.set(func(string) (error, error) { <-proceed; return nil, nil })
		done := make(chan error, 2)
		go func() { done <- b.Flush(ctx) }()
		synctest.Wait()
		must.Do(t, b.Append(ctx, Entry{"other", []byte("x")}))
		wantValue(t, b, "other", "x")
		shortCtx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		must.Fail(t, must.Err(b.Get(shortCtx, "k")), context.DeadlineExceeded, "Get of a moving key")
		go func() { done <- b.Append(ctx, Entry{"k", []byte("two")}) }()
		synctest.Wait()
		close(proceed)
		must.Do(t, <-done)
		must.Do(t, <-done)
		wantValue(t, b, "k", "onetwo")
		must.Do(t, b.Close())
	})
}

// TestBufferSetWaits checks that Set waits until no other operation uses its key.
func TestBufferSetWaits(t *testing.T) {
	b, _, _ := newFaultyBuffer(t, 1<<20)
	must.Do(t, b.Append(ctx, Entry{Key: "k", Value: []byte("v")}))
	parts := must.Get(b.pins.pin(ctx, "test", []string{"k"}))(t)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	must.Fail(t, b.Set(short, "k", []byte("w")), context.DeadlineExceeded, "Set of a key in use")
	b.pins.release(parts)
	must.Do(t, b.Set(ctx, "k", []byte("w")))
}

// TestBufferUnderFaults runs random operations in several goroutines while both stores
// fail at random, and compares the results with a model. Each goroutine has its own keys.
func TestBufferUnderFaults(t *testing.T) {
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
