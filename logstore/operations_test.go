package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestDeleteWithoutEffect checks that changes without an effect, such as deletes of missing keys, write nothing.
func TestDeleteWithoutEffect(t *testing.T) {
	s := openWith(t, t.TempDir(), nil, hooks{fs: osFS})
	defer s.Close()
	ctx := t.Context()
	mustAppend(t, s, "there", "v")
	before := s.tables.active.wal.end
	missing := make([]string, 300)
	for i := range missing {
		missing[i] = fmt.Sprint("none", i)
	}
	for desc, do := range map[string]func() error{
		"delete":                  func() error { return s.Delete(ctx, missing...) },
		"pop":                     func() error { _, err := s.Pop(ctx, missing...); return err },
		"append without bytes":    func() error { return s.Append(ctx, partd.Entry{Key: "there"}) },
		"set once without effect": func() error { return s.SetOnce(ctx, "there", []byte("other")) },
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", desc, err)
		}
		if end := s.tables.active.wal.end; end != before {
			t.Errorf("%s wrote %d bytes, want 0", desc, end-before)
			before = end
		}
	}
	must.Do(t, s.Delete(ctx, append(missing, "there")...))
	wantValue(t, s, "there", "")
	if wrote := s.tables.active.wal.end - before; wrote > 100 {
		t.Errorf("Delete of one existing key and %d missing keys wrote %d bytes, want at most 100", len(missing), wrote)
	}
}

// TestNumberedDeletesWithoutEffect checks that tags of deletes without an effect are stored in little space.
func TestNumberedDeletesWithoutEffect(t *testing.T) {
	dir := t.TempDir()
	s := openWith(t, dir, nil, hooks{fs: osFS})
	defer s.Close()
	session := newSession(t, s)
	const n = 100_000
	for i := range n {
		op := partd.Operation{Change: partd.ChangeDelete, Keys: []string{"none", "nor this"}}
		if applied, err := s.Apply(t.Context(), partd.Tag{Session: session, Number: uint64(i) + 1}, op); err != nil || !applied {
			t.Fatalf("Apply of delete %d = %v, %v, want true", i+1, applied, err)
		}
	}
	disk := int64(0)
	for _, f := range must.Get(os.ReadDir(dir))(t) {
		if info, err := os.Stat(filepath.Join(dir, f.Name())); err == nil {
			disk += info.Size()
		}
	}
	if disk > 5<<20 {
		t.Errorf("%d tagged deletes without an effect use %d bytes of disk, want at most 5 MiB", n, disk)
	}
	if applied, err := s.Apply(t.Context(), partd.Tag{Session: session, Number: n}, partd.Operation{Change: partd.ChangeDelete, Keys: []string{"none"}}); applied || err != nil {
		t.Errorf("retry of the last delete = %v, %v, want false", applied, err)
	}
}

// TestDeleteRepeatsLookup checks that Delete also removes a key created between its lookup and its record.
func TestDeleteRepeatsLookup(t *testing.T) {
	s := openWith(t, t.TempDir(), nil, hooks{fs: osFS})
	defer s.Close()
	mustAppend(t, s, "old", "v")
	op := s.newDeleteOp(t.Context(), []string{"new", "old", "none"})
	mustAppend(t, s, "new", "v")
	must.Get(s.change(t.Context(), "delete", partd.Tag{}, op))(t)
	for _, k := range []string{"old", "new"} {
		wantValue(t, s, k, "")
	}
	if op.exists[2] {
		t.Error("the record deletes a key that does not exist")
	}
}

// TestDeleteDuringLookup creates a key while Delete looks up its keys. Delete must also remove that key.
func TestDeleteDuringLookup(t *testing.T) {
	var s *Store
	armed := false
	h := crashHooksOn(vfstest.Inject(vfstest.NewMem(), func(op vfstest.Op, _ string) error {
		if armed && op == vfstest.OpRead {
			armed = false
			mustAppend(t, s, "new", "v")
		}
		return nil
	}))
	s = must.Get(openHooked(crashDir, nil, h))(t)
	defer s.Close()
	mustAppend(t, s, "old", "v")
	must.Do(t, s.Flush(t.Context()))
	armed = true
	if err := s.Delete(t.Context(), "old", "new"); err != nil || armed {
		t.Fatalf("Delete: error %v; its lookup read no file: %v", err, armed)
	}
	wantValue(t, s, "old", "")
	wantValue(t, s, "new", "")
}

// TestLargeNumberedDeleteWithoutEffect checks that a delete of very many missing keys does not cause a seal.
func TestLargeNumberedDeleteWithoutEffect(t *testing.T) {
	s := openWith(t, t.TempDir(), nil, hooks{fs: osFS})
	defer s.Close()
	session := newSession(t, s)
	keys := make([]string, s.maxBatch/entryOverhead)
	for i := range keys {
		keys[i] = fmt.Sprint("none", i)
	}
	mustAppend(t, s, "there", "v")
	op := s.newDeleteOp(t.Context(), keys)
	mustAppend(t, s, keys[0], "created later") // the delete takes effect before this
	first, tag := s.tables.active.firstSeq, partd.Tag{Session: session, Number: 1}
	for _, isNew := range []bool{true, false} {
		if applied, err := s.change(t.Context(), "delete", tag, op); applied != isNew || err != nil {
			t.Errorf("delete with a tag = %v, %v, want %v", applied, err, isNew)
		}
	}
	if s.tables.active.firstSeq != first || len(s.segments.list) > 0 {
		t.Error("the delete caused a seal, want the table unchanged")
	}
	wantValue(t, s, keys[0], "created later")
}

// TestDeleteAfterStaleLookup checks that a Delete fits into the active table although most of its keys were appended
// after the Delete had looked them up. It tries this with tables that are full to different degrees.
func TestDeleteAfterStaleLookup(t *testing.T) {
	for fill := range 60 {
		h := crashHooks
		h.tableBytes = 16 << 10
		h.fs = vfstest.NewMem()
		s := openWith(t, crashDir, nil, h)
		keys := make([]string, 100)
		entries := make([]partd.Entry, len(keys))
		for i := range keys {
			keys[i] = fmt.Sprintf("key %d", i)
			entries[i] = partd.Entry{Key: keys[i], Value: []byte("v")}
		}
		mustAppend(t, s, keys[0], "v")
		op := s.newDeleteOp(t.Context(), keys)
		must.Do(t, s.Append(t.Context(), entries...))
		for i := range fill {
			mustAppend(t, s, "other", fmt.Sprintf("%300d", i))
		}
		must.Get(s.change(t.Context(), "delete", partd.Tag{}, op))(t)
		values := must.Get(s.Get(t.Context(), keys...))(t)
		for i, v := range values {
			if len(v) > 0 {
				t.Errorf("after filling the table with %d values, %s was not deleted", fill, keys[i])
			}
		}
		must.Do(t, s.Close())
	}
}

// TestDropWithoutNewFile checks that Drop succeeds if the store then cannot begin a write-ahead file, for example
// because the process has too many open files. Changes fail until a file can be created, and do not blame the disk.
func TestDropWithoutNewFile(t *testing.T) {
	var fails atomic.Bool
	h := crashHooksOn(vfstest.Inject(vfstest.NewMem(), func(op vfstest.Op, path string) error {
		if fails.Load() && op == vfstest.OpOpen && strings.Contains(path, "wal-") {
			return syscall.EMFILE
		}
		return nil
	}))
	s := openWith(t, crashDir, nil, h)
	mustAppend(t, s, "k", "old")
	fails.Store(true)
	must.Do(t, s.Drop(t.Context()))
	err := s.Set(t.Context(), "k", []byte("v"))
	if !errors.Is(err, syscall.EMFILE) || strings.Contains(err.Error(), "disk is full") {
		t.Errorf("Set without a write-ahead file: error %v, want EMFILE, and no mention of a full disk", err)
	}
	wantValue(t, s, "k", "")
	if err := s.Drop(t.Context()); err != nil {
		t.Errorf("Drop without a write-ahead file: error %v", err)
	}
	fails.Store(false)
	mustAppend(t, s, "k", "new")
	wantValue(t, s, "k", "new")
	must.Do(t, s.Close())
}

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
		must.Concurrently(writers, func(w int) {
			for n := range 25 {
				begun[w].Add(1)
				if !must.Check(t, s.Append(context.Background(), makeGroupBatch(w, n)...)) {
					return
				}
				acked[w].Add(1)
			}
		})
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
