package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
					s.background.consider()
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
