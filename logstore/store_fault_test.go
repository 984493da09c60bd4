package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// contents reads a store with Scan, which also checks the store's ledger (counts and sums of hashes).
func contents(s *Store) (map[string][]byte, error) {
	got := map[string][]byte{}
	for c, err := range s.Scan(context.Background()) {
		if err != nil {
			return nil, err
		}
		if int64(len(got[c.Key])) != c.Offset {
			return nil, fmt.Errorf("key %q: got a chunk at offset %d after %d bytes", c.Key, c.Offset, len(got[c.Key]))
		}
		got[c.Key] = append(got[c.Key], c.Data...)
	}
	return got, nil
}

// readings remembers the contents of stores, because many faults and crashes leave the same files.
type readings map[uint64]map[string][]byte

// read opens a store on mem, and returns its content. If a store on equal files was read before, it may only return
// what that contained.
func (r readings) read(mem *vfstest.Mem, opts *Options) (map[string][]byte, error) {
	sum := mem.Sum(lockName) // the lock file names the time
	if got, ok := r[sum]; ok {
		return got, nil
	}
	s, err := openHooked(crashDir, opts, crashHooksOn(mem))
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	got, err := contents(s)
	if err := errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	r[sum] = got
	return got, nil
}

var (
	longValue  = bytes.Repeat([]byte("long "), 60)  // inline
	largeValue = bytes.Repeat([]byte("large"), 200) // a blob in a store with crashHooks
)

type faultStep struct {
	name string
	do   func(ctx context.Context, s *Store) error
	want func(m map[string][]byte)
}

func faultSteps() []faultStep {
	add := func(m map[string][]byte, k string, v []byte) { m[k] = append(bytes.Clone(m[k]), v...) }
	return []faultStep{
		{
			"append", func(ctx context.Context, s *Store) error {
				return s.Append(ctx, partd.Entry{Key: "a", Value: []byte("x")}, partd.Entry{Key: "new", Value: []byte("y")})
			},
			func(m map[string][]byte) { add(m, "a", []byte("x")); add(m, "new", []byte("y")) },
		},
		{
			"append a large value", func(ctx context.Context, s *Store) error {
				return s.Append(ctx, partd.Entry{Key: "a", Value: largeValue}, partd.Entry{Key: "b", Value: largeValue})
			},
			func(m map[string][]byte) { add(m, "a", largeValue); add(m, "b", largeValue) },
		},
		{
			"append a large batch", func(ctx context.Context, s *Store) error {
				var entries []partd.Entry
				for i := range 60 {
					entries = append(entries, partd.Entry{Key: fmt.Sprint(i % 7), Value: longValue})
				}
				return s.Append(ctx, entries...)
			},
			func(m map[string][]byte) {
				for i := range 60 {
					add(m, fmt.Sprint(i%7), longValue)
				}
			},
		},
		{
			"set", func(ctx context.Context, s *Store) error { return s.Set(ctx, "a", largeValue) },
			func(m map[string][]byte) { m["a"] = largeValue },
		},
		{
			"set once", func(ctx context.Context, s *Store) error { return s.SetOnce(ctx, "once", []byte("1")) },
			func(m map[string][]byte) { m["once"] = []byte("1") },
		},
		{
			"delete", func(ctx context.Context, s *Store) error { return s.Delete(ctx, "a", "b") },
			func(m map[string][]byte) { delete(m, "a"); delete(m, "b") },
		},
		{
			"pop", func(ctx context.Context, s *Store) error { _, err := s.Pop(ctx, "a", "none"); return err },
			func(m map[string][]byte) { delete(m, "a") },
		},
		{"drop", func(ctx context.Context, s *Store) error { return s.Drop(ctx) }, func(m map[string][]byte) { clear(m) }},
		{"flush", func(ctx context.Context, s *Store) error { return s.Flush(ctx) }, func(map[string][]byte) {}},
		{"sync", func(ctx context.Context, s *Store) error { return s.Sync(ctx) }, func(map[string][]byte) {}},
		{"close", func(_ context.Context, s *Store) error { return s.Close() }, func(map[string][]byte) {}},
		{
			"scan", func(_ context.Context, s *Store) error { _, err := contents(s); return err },
			func(map[string][]byte) {},
		},
		{
			"get", func(ctx context.Context, s *Store) error { _, err := s.Get(ctx, "a", "b", "c"); return err },
			func(map[string][]byte) {},
		},
	}
}

// faultStart returns the files and the content of a store after a kill. The store has data in
// segments, blob files and write-ahead files.
func faultStart(t *testing.T, opts *Options) (*vfstest.Mem, map[string][]byte) {
	t.Helper()
	mem := vfstest.NewMem()
	s := openWith(t, crashDir, opts, crashHooksOn(mem))
	want := map[string][]byte{}
	for i := range 20 {
		for k, v := range map[string][]byte{"a": longValue, "b": largeValue, fmt.Sprint(i): []byte("v")} {
			must.Do(t, s.Append(t.Context(), partd.Entry{Key: k, Value: v}))
			want[k] = append(want[k], v...)
		}
	}
	killed := mem.KillClone()
	must.Do(t, s.Close())
	if n := mem.OpenCount(); n != 0 {
		t.Fatalf("%d files are still open after Close", n)
	}
	return killed, want
}

// TestEveryFault makes each file system call of each operation fail, either only that call or all
// later calls too. The content must be the state before or after the operation, the error must say
// which, and reopening must not change the content. After one failed call, an outcome may be reported as unknown only if
// the operation may have taken effect. If Sync then succeeds, a power failure must not change the content.
func TestEveryFault(t *testing.T) {
	errnos := []error{syscall.ENOSPC, syscall.EIO}
	synced := 0
	for _, opts := range []*Options{{}, {Sync: true}} {
		start, before := faultStart(t, opts)
		seen := readings{}
		for _, step := range faultSteps() {
			for i, persists := range []bool{false, true} {
				t.Run(fmt.Sprintf("sync=%v/%s/persists=%v", opts.Sync, step.name, persists), func(t *testing.T) {
					after := maps.Clone(before)
					step.want(after)
					vfstest.EachFault(1, errnos, i, func(call int64, err error) bool {
						fault := &vfstest.Fault{Call: call, Err: err, Persists: persists, ShortWrite: true}
						if runWithFault(t, start.KillClone(), opts, fault, step, before, after, seen) {
							synced++
						}
						return fault.Hit()
					})
				})
			}
		}
	}
	if synced < 100 {
		t.Errorf("Sync succeeded after only %d faults, want at least 100", synced)
	}
}

// runWithFault injects one fault, and reports whether Sync succeeded after it.
func runWithFault(t *testing.T, mem *vfstest.Mem, opts *Options, fault *vfstest.Fault, step faultStep, before, after map[string][]byte, seen readings) (synced bool) {
	t.Helper()
	enabled := make(chan struct{}, 1) // contains a value while calls may fail
	fault.Match = func(vfstest.Op, string) bool { return len(enabled) == 1 }
	var failed vfstest.Op
	h := crashHooksOn(vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		err := fault.Check(op, name)
		if err != nil {
			failed = op
		}
		return err
	}))
	s := openWith(t, crashDir, opts, h)
	enabled <- struct{}{}
	err := step.do(t.Context(), s)
	<-enabled
	var allowed []map[string][]byte
	switch {
	case err == nil:
		allowed = append(allowed, after)
	case errors.Is(err, partd.ErrUnknownOutcome):
		allowed = append(allowed, before, after)
	default:
		allowed = append(allowed, before)
	}
	if err != nil && !errors.Is(err, fault.Err) {
		t.Fatalf("fault in call %d: error %v, want an error that wraps the fault", fault.Call, err)
	}
	check := func(label string, got map[string][]byte, e error) {
		t.Helper()
		if e != nil {
			t.Fatalf("fault in call %d, reading %s after the error %v: %v", fault.Call, label, err, e)
		}
		for _, m := range allowed {
			if maps.EqualFunc(got, m, bytes.Equal) {
				return
			}
		}
		t.Fatalf("fault in call %d, %s after the error %v: the content has %d keys, and is not the state before or after the operation", fault.Call, label, err, len(got))
	}
	if step.name != "close" {
		got, e := contents(s)
		check("the same store", got, e)
		got, e = seen.read(mem.KillClone(), opts)
		check("the store after a kill", got, e)
		// The store cannot know whether a failed rename took effect, or a write that it cannot undo.
		if len(allowed) == 2 && !fault.Persists && !maps.EqualFunc(before, after, bytes.Equal) && !maps.EqualFunc(got, after, bytes.Equal) && failed != vfstest.OpRename {
			t.Fatalf("fault in call %d, %v: the outcome was reported as unknown, but the operation had no effect: %v", fault.Call, failed, err)
		}
		needsReopen := s.checkPoisoned() != nil
		if e := s.Append(t.Context(), partd.Entry{Key: "z", Value: []byte("z")}); needsReopen != errors.Is(e, partd.ErrNeedsReopen) || !needsReopen && e != nil {
			t.Fatalf("fault in call %d: after the error %v, Append returns %v, want nil or a refusal until the store is reopened", fault.Call, err, e)
		} else if e == nil {
			for i := range allowed {
				allowed[i] = maps.Clone(allowed[i])
				allowed[i]["z"] = []byte("z")
			}
		}
		e = s.Sync(t.Context())
		if synced = e == nil; synced || opts.Sync { // otherwise, no change was acknowledged as durable
			for seed := range uint64(3) {
				var rnd *rand.Rand
				if seed > 0 {
					rnd = rand.New(rand.NewPCG(uint64(fault.Call), seed))
				}
				got, e := seen.read(mem.Crash(rnd), opts)
				check("the store after a power failure", got, e)
			}
		}
		if e := s.Close(); e != nil && !needsReopen {
			t.Fatalf("fault in call %d: Close: %v", fault.Call, e)
		}
	}
	if n := mem.OpenCount(); n != 0 {
		t.Fatalf("fault in call %d: %d files are still open after Close", fault.Call, n)
	}
	got, e := seen.read(mem, opts)
	check("the reopened store", got, e)
	return synced
}

// TestFaultWhileOpening checks that a fault while a store is opened is reported and loses no data.
func TestFaultWhileOpening(t *testing.T) {
	for _, opts := range []*Options{{}, {Sync: true}, {ReadOnly: true}} {
		start, want := faultStart(t, &Options{Sync: opts.Sync})
		seen := readings{}
		for n := int64(1); ; n++ {
			mem := start.KillClone()
			fault := &vfstest.Fault{Call: n, Err: syscall.EIO, ShortWrite: true}
			s, err := openHooked(crashDir, opts, crashHooksOn(vfstest.Inject(mem, fault.Check)))
			if err == nil {
				if err := s.Close(); err != nil && !fault.Hit() {
					t.Fatal(err)
				}
			} else if !errors.Is(err, syscall.EIO) {
				t.Fatalf("fault in call %d: open returned the error %v, want EIO", n, err)
			}
			if open := mem.OpenCount(); open != 0 {
				t.Fatalf("fault in call %d: %d files are still open", n, open)
			}
			got, err := seen.read(mem, nil)
			if err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
				t.Fatalf("fault in call %d: reading the store again returned error %v and %d keys, want %d keys as before", n, err, len(got), len(want))
			}
			if !fault.Hit() {
				break
			}
		}
	}
}

// TestUnreadableBlob checks that a store reports a large value that cannot be read, instead of losing the value.
func TestUnreadableBlob(t *testing.T) {
	for _, kind := range []vfstest.Op{vfstest.OpInfo, vfstest.OpRead} {
		for n := int64(1); ; n++ {
			mem := vfstest.NewMem()
			h := crashHooksOn(mem)
			s, err := openHooked(crashDir, &Options{Sync: true}, h)
			must.Do(t, err)
			mustAppend(t, s, "a", string(largeValue))
			killed := mem.KillClone()
			must.Do(t, s.Close())
			fault := &vfstest.Fault{Call: n, Err: syscall.EIO, Match: func(op vfstest.Op, name string) bool {
				return op == kind && strings.Contains(name, "blob-")
			}}
			h.fs = vfstest.Inject(killed, fault.Check)
			if s, err = openHooked(crashDir, nil, h); err != nil && !errors.Is(err, syscall.EIO) {
				t.Fatalf("opening the store with a fault: error %v, want EIO", err)
			} else if err == nil {
				v, err := s.Get(t.Context(), "a")
				if err == nil && !bytes.Equal(v[0], largeValue) || err != nil && !errors.Is(err, syscall.EIO) {
					t.Fatalf("Get = %d bytes, %v, want the large value or EIO", len(v[0]), err)
				}
				if err := s.Close(); err != nil && !errors.Is(err, syscall.EIO) {
					t.Fatal(err)
				}
			}
			h.fs = killed
			s = openWith(t, crashDir, nil, h)
			wantValue(t, s, "a", string(largeValue))
			must.Do(t, s.Close())
			if !fault.Hit() {
				break
			}
		}
	}
}
