package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestReclaimDuringRead reclaims space while a reader is open. Closing the reader must free the space that it retained.
func TestReclaimDuringRead(t *testing.T) {
	for _, size := range []int{10_000, 100_000} { // small values are in segments, large ones in blob files
		dir := t.TempDir()
		s := opener(t, dir, &Options{Memory: MinMemory, FileSize: 1 << 20}, hooks{fs: vfs.OS{}, reclaimSlack: -1})()
		value := strings.Repeat("v", size)
		for i := range 20_000_000 / size {
			mustAppend(t, s, fmt.Sprint(i%10), value)
		}
		r := must.Get(s.Open(t.Context(), "3"))(t)
		must.Get(io.ReadFull(r, make([]byte, 10)))(t)
		for i := range 9 { // delete all keys except 9
			must.Do(t, s.Delete(t.Context(), fmt.Sprint(i)))
		}
		reclaimNow(t, s, 1<<18)
		sizeWithReader := disk(t, dir, "blob-")
		b, err := io.ReadAll(r)
		if err != nil || string(b) != strings.Repeat(value, 2_000_000/size)[10:] {
			t.Fatalf("the reader returned %d bytes, %v, want the rest of the value", len(b), err)
		}
		must.Do(t, r.Close())
		settle(t, s)
		if n := disk(t, dir, "seg-") + disk(t, dir, "blob-"); n > 7<<20 {
			t.Errorf("values of %d bytes: with an open reader, blob files used %d bytes; after it was closed, all data files use %d, want at most 7 MiB", size, sizeWithReader, n)
		}
		wantValue(t, s, "9", strings.Repeat(value, 2_000_000/size))
		mustVerify(t, s)
		must.Do(t, s.Close())
	}
}

// TestReclaimInterrupted checks that Drop and Close succeed and lose no data if they start during reclaiming.
func TestReclaimInterrupted(t *testing.T) {
	h := reclaimHooks
	h.tableBytes, h.minMerge = 16<<10, -1
	start := vfstest.NewMem()
	want := makeWasteful(t, start, h)
	for _, end := range []string{"drop", "close"} {
		for call := int64(1); ; call += 2 {
			mem := start.KillClone()
			var calls atomic.Int64
			var armed, ended atomic.Bool
			endCalls := make(chan func() error, 1)
			done := make(chan error, 1)
			h.reclaimSlack = -1
			h.fs = vfstest.Inject(mem, func(vfstest.Op, string) error {
				if armed.Load() && calls.Add(1) == call {
					ended.Store(true)
					go func() { done <- (<-endCalls)() }()
					select {
					case err := <-done:
						done <- err
					case <-time.After(2 * time.Millisecond):
					}
				}
				return nil
			})
			s := opener(t, "/s", reclaimOpts, h)()
			if end == "drop" {
				endCalls <- func() error { return s.Drop(context.Background()) }
			} else {
				endCalls <- s.Close
			}
			armed.Store(true)
			reclaimNow(t, s, 1<<10)
			armed.Store(false)
			if !ended.Load() {
				must.Do(t, s.Close())
				break
			}
			if err := <-done; err != nil {
				t.Fatalf("%[2]s at call %[1]d: %[3]v", call, end, err)
			}
			wanted := want
			if end == "drop" {
				wanted = map[string][]byte{"k": []byte("v")}
				if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("v")}); err != nil {
					t.Fatalf("Append after a drop at call %d: %v", call, err)
				}
				waitMerged(t, s)
				must.Do(t, s.Close())
			}
			if n := mem.OpenCount(); n != 0 {
				t.Fatalf("%[2]s at call %[1]d: %[3]d files are still open", call, end, n)
			}
			h.fs = mem
			s = opener(t, "/s", reclaimOpts, h)()
			got, err := contents(s)
			if err != nil || !maps.EqualFunc(got, wanted, bytes.Equal) {
				t.Fatalf("%[2]s at call %[1]d: the reopened store has wrong contents: %[3]d keys, want %[4]d; error %[5]v", call, end, len(got), len(wanted), err)
			}
			_, err = s.verify(t.Context())
			if err := errors.Join(err, s.Close()); err != nil {
				t.Fatalf("%[2]s at call %[1]d: Verify or Close of the reopened store: %[3]v", call, end, err)
			}
		}
	}
}

// unsteadyDisk is a disk that sometimes reports little free space.
type unsteadyDisk struct {
	vfs.FS
	calls atomic.Uint64
}

func (d *unsteadyDisk) Free(string) (int64, error) {
	return []int64{1 << 40, 1<<20 + 40<<10, 0, 1 << 21}[d.calls.Add(1)%4], nil
}

// TestReclaimDuringFailures reclaims space while goroutines make changes, some of which fail
// because the disk is full. No acknowledged data may be lost.
func TestReclaimDuringFailures(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Logf("seed %d", seed)
		mem := vfstest.NewMem()
		var random atomic.Uint64
		disk := &unsteadyDisk{FS: vfstest.Inject(mem, func(op vfstest.Op, name string) error {
			// Writes to blobs fail often, other calls rarely.
			n := random.Add(0x9E3779B97F4A7C15) >> 54
			if op == vfstest.OpWrite && n%4 == 0 {
				time.Sleep(500 * time.Microsecond) // give other goroutines time between two writes
			}
			if op == vfstest.OpWrite && (strings.Contains(name, "blob") && n < 150 || n < 5) {
				return syscall.ENOSPC
			}
			return nil
		})}
		h := reclaimHooks
		h.fs, h.reclaimSlack = disk, 4<<10
		reopen := opener(t, "/s", reclaimOpts, h)
		s := reopen()
		want := make([]map[string][]byte, 4)
		var wait sync.WaitGroup
		for w := range want {
			want[w] = map[string][]byte{}
			wait.Go(func() {
				makeFailingChanges(t, s, rand.New(rand.NewPCG(seed, uint64(w))), fmt.Sprint("writer", w), want[w])
			})
		}
		done := make(chan struct{})
		var reclaimer sync.WaitGroup
		reclaimer.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					s.mu.Lock()
					s.reclaim.mustMeasure, s.reclaim.failures = true, 0
					s.background.startIfDue()
					s.mu.Unlock()
					waitMerged(t, s)
				}
			}
		})
		wait.Wait()
		close(done)
		reclaimer.Wait()
		all := map[string][]byte{}
		for _, m := range want {
			for k, v := range m {
				all[k] = v
			}
		}
		wantMerged(t, s, all)
		_ = s.Close() // may fail, because the disk may be full
		disk.FS = mem
		s = reopen()
		wantMerged(t, s, all)
		must.Do(t, s.Close())
		if n := mem.OpenCount(); n != 0 {
			t.Errorf("seed %d: %d files are still open", seed, n)
		}
	}
}

// makeFailingChanges makes random changes to its own keys, and records those that succeed.
func makeFailingChanges(t *testing.T, s *Store, rnd *rand.Rand, name string, want map[string][]byte) {
	ctx := context.Background()
	for n := range 400 {
		k := fmt.Sprint(name, "/", rnd.IntN(4))
		v := bytes.Repeat(fmt.Appendf(nil, "%d,", n), 1+rnd.IntN(800))
		var err error
		var next []byte
		switch x := rnd.IntN(10); {
		case x < 2:
			err = s.Delete(ctx, k)
		case x == 2:
			_, err = s.Pop(ctx, k)
		case x == 3:
			next = v
			if old, exists := want[k]; exists {
				next = old
			}
			err = s.SetOnce(ctx, k, v)
		case x == 4:
			next = v
			err = s.Set(ctx, k, v)
		default:
			next = append(want[k][:len(want[k]):len(want[k])], v...)
			err = s.Append(ctx, partd.Entry{Key: k, Value: v})
		}
		switch {
		case err == nil && next == nil:
			delete(want, k)
		case err == nil:
			want[k] = next
		case !isFull(err) || errors.Is(err, partd.ErrUnknownOutcome) || s.checkPoisoned() != nil:
			t.Errorf("change of key %s: error %v, want one about a full disk with a known outcome", k, err)
			return
		}
		if n%8 == 0 {
			if got, err := s.Get(ctx, k); err != nil || !bytes.Equal(got[0], want[k]) {
				t.Errorf("Get(%s) differs from the expected %d bytes, or failed: %v", k, len(want[k]), err)
				return
			}
		}
	}
}
