package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
)

// contents reads a whole store, and, when it can, checks its ledger.
func contents(s *Store) (map[string][]byte, error) {
	got := map[string][]byte{}
	for c, err := range s.Scan(context.Background()) {
		if err != nil {
			return nil, err
		}
		if int64(len(got[c.Key])) != c.Offset {
			return nil, fmt.Errorf("key %q: a chunk at offset %d after %d bytes", c.Key, c.Offset, len(got[c.Key]))
		}
		got[c.Key] = append(got[c.Key], c.Data...)
	}
	return got, nil
}

var (
	longValue  = bytes.Repeat([]byte("long "), 60)  // inline
	largeValue = bytes.Repeat([]byte("large"), 200) // a blob, under crashHooks
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

// faultStart returns a store that was killed with content in segments, in blob
// files and in write-ahead files.
func faultStart(t *testing.T, opts *Options) (*vfs.Mem, map[string][]byte) {
	t.Helper()
	mem := vfs.NewMem()
	h := crashHooks
	h.fs = mem
	s, err := open(crashDir, opts, h)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{}
	for i := range 20 {
		for k, v := range map[string][]byte{"a": longValue, "b": largeValue, fmt.Sprint(i): []byte("v")} {
			if err := s.Append(t.Context(), partd.Entry{Key: k, Value: v}); err != nil {
				t.Fatal(err)
			}
			want[k] = append(want[k], v...)
		}
	}
	left := mem.KillClone()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := mem.OpenCount(); n != 0 {
		t.Fatalf("%d files are still open after Close", n)
	}
	return left, want
}

// Every call to the file system fails, once or from then on, at every point of
// every operation: the state is the one before or the one after, the error
// says which, and opening the store again finds the same.
func TestEveryFault(t *testing.T) {
	for _, opts := range []*Options{{}, {Sync: true}} {
		start, before := faultStart(t, opts)
		for _, step := range faultSteps() {
			for _, stays := range []bool{false, true} {
				for _, errno := range []error{syscall.ENOSPC, syscall.EIO} {
					t.Run(fmt.Sprintf("sync=%v/%s/stays=%v/%v", opts.Sync, step.name, stays, errno), func(t *testing.T) {
						after := maps.Clone(before)
						step.want(after)
						for n := int64(1); ; n++ {
							fault := &vfs.Fault{At: n, Err: errno, Stays: stays, Short: true}
							if !faultAt(t, start.KillClone(), opts, fault, step, before, after) {
								break
							}
						}
					})
				}
			}
		}
	}
}

// faultAt tries one fault and tells whether it came.
func faultAt(t *testing.T, mem *vfs.Mem, opts *Options, fault *vfs.Fault, step faultStep, before, after map[string][]byte) bool {
	t.Helper()
	on := make(chan struct{}, 1) // full while calls may fail
	fault.Only = func(vfs.Op, string) bool { return len(on) == 1 }
	h := crashHooks
	h.fs = vfs.Inject(mem, fault.Check)
	s, err := open(crashDir, opts, h)
	if err != nil {
		t.Fatal(err)
	}
	on <- struct{}{}
	err = step.do(t.Context(), s)
	<-on
	var may []map[string][]byte
	switch {
	case err == nil:
		may = append(may, after)
	case errors.Is(err, partd.ErrUnknownOutcome):
		may = append(may, before, after)
	default:
		may = append(may, before)
	}
	if err != nil && !errors.Is(err, fault.Err) {
		t.Fatalf("call %d: the error does not say what failed: %v", fault.At, err)
	}
	check := func(when string, s *Store) {
		t.Helper()
		got, e := contents(s)
		if e != nil {
			t.Fatalf("call %d, %s, after %v: %v", fault.At, when, err, e)
		}
		for _, m := range may {
			if maps.EqualFunc(got, m, bytes.Equal) {
				return
			}
		}
		t.Fatalf("call %d, %s, after %v: a wrong state of %d keys", fault.At, when, err, len(got))
	}
	if step.name != "close" {
		check("at once", s)
		killed := mem.KillClone()
		h.fs = killed
		k, e := open(crashDir, opts, h)
		if e != nil {
			t.Fatalf("call %d, opening after a kill, after %v: %v", fault.At, err, e)
		}
		check("after a kill", k)
		if e := k.Close(); e != nil {
			t.Fatal(e)
		}
		broken := s.poisoned() != nil
		if e := s.Append(t.Context(), partd.Entry{Key: "z", Value: []byte("z")}); broken != errors.Is(e, partd.ErrNeedsReopen) || !broken && e != nil {
			t.Fatalf("call %d: after %v an append says %v", fault.At, err, e)
		} else if e == nil {
			for i := range may {
				may[i] = maps.Clone(may[i])
				may[i]["z"] = []byte("z")
			}
		}
		if e := s.Close(); e != nil && !broken {
			t.Fatalf("call %d: Close: %v", fault.At, e)
		}
	}
	if n := mem.OpenCount(); n != 0 {
		t.Fatalf("call %d: %d files are still open", fault.At, n)
	}
	h.fs = mem
	s, e := open(crashDir, opts, h)
	if e != nil {
		t.Fatalf("call %d, opening again, after %v: %v", fault.At, err, e)
	}
	check("opened again", s)
	if e := s.Close(); e != nil {
		t.Fatal(e)
	}
	return fault.Hit()
}

// A fault while the store is opened is an error, and nothing is lost by it.
func TestFaultWhileOpening(t *testing.T) {
	for _, opts := range []*Options{{}, {Sync: true}, {ReadOnly: true}} {
		start, want := faultStart(t, &Options{Sync: opts.Sync})
		for n := int64(1); ; n++ {
			mem := start.KillClone()
			fault := &vfs.Fault{At: n, Err: syscall.EIO, Short: true}
			h := crashHooks
			h.fs = vfs.Inject(mem, fault.Check)
			s, err := open(crashDir, opts, h)
			if err == nil {
				if err := s.Close(); err != nil && !fault.Hit() {
					t.Fatal(err)
				}
			} else if !errors.Is(err, syscall.EIO) {
				t.Fatalf("call %d: %v", n, err)
			}
			if open := mem.OpenCount(); open != 0 {
				t.Fatalf("call %d: %d files are still open", n, open)
			}
			h.fs = mem
			s, err = open(crashDir, nil, h)
			if err != nil {
				t.Fatalf("call %d: opening again: %v", n, err)
			}
			got, err := contents(s)
			if err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
				t.Fatalf("call %d: %v, %d keys instead of %d", n, err, len(got), len(want))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if !fault.Hit() {
				break
			}
		}
	}
}

// Every bit of every file is flipped, and every file cut at every place. What
// is read is right, or there is an error; only the last record of a torn log
// may be missing, and the store says so.
func TestEveryBitAndCut(t *testing.T) {
	mem, want, last := damageStart(t)
	names := []string{manifestName, "wal-0", "wal-1", "wal-2", "seg-00000001", "blob-00000002", "seg-00000002", "blob-00000001"}
	found := 0
	for _, name := range names {
		size := fileSize(mem, crashDir+"/"+name)
		if size == 0 {
			continue
		}
		found++
		step := int64(1)
		if testing.Short() {
			step = 7
		}
		for bit := int64(0); bit < size*8; bit += step {
			damaged(t, mem, want, last, fmt.Sprintf("%s, bit %d", name, bit), func(m *vfs.Mem) {
				change(t, m, crashDir+"/"+name, bit/8, func(b byte) byte { return b ^ 1<<(bit%8) })
			})
		}
		for cut := int64(0); cut < size; cut += step {
			damaged(t, mem, want, last, fmt.Sprintf("%s, cut at %d", name, cut), func(m *vfs.Mem) {
				f, err := m.OpenFile(crashDir+"/"+name, syscall.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(f.Truncate(cut), f.Close()); err != nil {
					t.Fatal(err)
				}
			})
		}
		damaged(t, mem, want, last, name+", missing", func(m *vfs.Mem) {
			if err := m.Remove(crashDir + "/" + name); err != nil {
				t.Fatal(err)
			}
		})
	}
	if found < 4 {
		t.Fatalf("only %d kinds of files were damaged", found)
	}
}

func fileSize(m *vfs.Mem, name string) int64 {
	info, err := m.Info(name)
	if err != nil {
		return 0
	}
	return info.Size
}

func change(t *testing.T, m *vfs.Mem, name string, off int64, f func(byte) byte) {
	t.Helper()
	file, err := m.OpenFile(name, syscall.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	_, err = file.ReadAt(b, off)
	b[0] = f(b[0])
	_, err2 := file.WriteAt(b, off)
	if err := errors.Join(err, err2, file.Close()); err != nil {
		t.Fatal(err)
	}
}

// damageStart returns a small store that was killed, what it holds, and what
// it holds without its last record.
func damageStart(t *testing.T) (mem *vfs.Mem, want, withoutLast map[string][]byte) {
	t.Helper()
	live := vfs.NewMem()
	h := crashHooks
	h.fs = live
	h.blobBytes = 100
	s, err := open(crashDir, nil, h)
	if err != nil {
		t.Fatal(err)
	}
	want = map[string][]byte{}
	add := func(k string, v []byte) {
		if err := s.Append(t.Context(), partd.Entry{Key: k, Value: v}); err != nil {
			t.Fatal(err)
		}
		want[k] = append(bytes.Clone(want[k]), v...)
	}
	for i := range 4 {
		add(fmt.Sprint("key", i), []byte(strings.Repeat("v", i*3+1)))
	}
	add("large", bytes.Repeat([]byte("0123456789"), 15))
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	add("key1", []byte("more"))
	add("late", []byte("value"))
	withoutLast = maps.Clone(want)
	add("last", []byte("value"))
	killed := live.KillClone()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return killed, want, withoutLast
}

func damaged(t *testing.T, start *vfs.Mem, want, withoutLast map[string][]byte, what string, damage func(m *vfs.Mem)) {
	t.Helper()
	mem := start.KillClone()
	damage(mem)
	h := crashHooks
	h.blobBytes = 100
	h.fs = mem
	s, err := open(crashDir, nil, h)
	if err == nil {
		var got map[string][]byte
		torn := s.Recovered().Torn
		if got, err = contents(s); err == nil && !maps.EqualFunc(got, want, bytes.Equal) {
			if !maps.EqualFunc(got, withoutLast, bytes.Equal) || !torn && !strings.Contains(what, "cut") {
				t.Fatalf("%s: %d keys instead of %d were read, without an error", what, len(got), len(want))
			}
		}
		for k, v := range want {
			got, err := s.Get(t.Context(), k)
			if err == nil && !bytes.Equal(got[0], v) && (k != "last" || len(got[0]) > 0) {
				t.Fatalf("%s: Get of %s read something wrong without an error", what, k)
			}
		}
		if e := s.Close(); e != nil {
			err = errors.Join(err, e)
		}
	}
	var corrupt *partd.CorruptError
	if err != nil && !errors.As(err, &corrupt) {
		t.Fatalf("%s: the error is no CorruptError: %v", what, err)
	}
}
