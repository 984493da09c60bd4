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
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// afterPowerLoss opens the store as a power failure would leave it now.
func afterPowerLoss(t *testing.T, mem *vfstest.Mem, opts *Options) *Store {
	t.Helper()
	s, err := openHooked(crashDir, opts, crashHooksOn(mem.Crash(nil)))
	if err != nil {
		t.Fatalf("opening the store after a power failure: %v", err)
	}
	t.Cleanup(func() { must.Do(t, s.Close()) })
	return s
}

// TestSyncFailsWhileOthersWait makes a sync fail while other calls wait for it or run their own sync.
// None of them may acknowledge data that the failed sync lost.
func TestSyncFailsWhileOthersWait(t *testing.T) {
	for _, file := range []string{"blob-", "wal-"} {
		var armed atomic.Bool
		var first sync.Once
		syncing, proceed := make(chan struct{}), make(chan struct{})
		mem := vfstest.NewMem()
		h := crashHooksOn(vfstest.Inject(mem, func(op vfstest.Op, name string) error {
			if !armed.Load() || op != vfstest.OpSync || !strings.Contains(name, file) {
				return nil
			}
			var err error
			first.Do(func() {
				close(syncing)
				<-proceed
				err = syscall.EIO
			})
			if err == nil { // this sync starts during the failing sync, and ends after it
				<-proceed
				time.Sleep(20 * time.Millisecond)
			}
			return err
		}))
		opts := &Options{Sync: true}
		s := openWith(t, crashDir, opts, h)
		mustAppend(t, s, "before", string(largeValue))
		before := s.nextRecord()
		startAppend := func(key string, value []byte) chan error {
			done := make(chan error, 1)
			go func() { done <- s.Append(t.Context(), partd.Entry{Key: key, Value: value}) }()
			return done
		}
		armed.Store(true)
		firstDone := startAppend("one", largeValue)
		<-syncing
		secondDone := startAppend("two", []byte("v"))
		must.Eventually(t, time.Minute, "the second append does not wait for the sync", func() bool { return s.nextRecord() >= before+2 })
		flushed := make(chan error, 1)
		go func() { flushed <- s.Flush(t.Context()) }()
		time.Sleep(50 * time.Millisecond) // Flush also waits for the sync, but the test passes if it begins later
		close(proceed)
		if err := <-firstDone; !errors.Is(err, syscall.EIO) || !errors.Is(err, partd.ErrUnknownOutcome) {
			t.Errorf("failing sync of %s: Append: error %v, want EIO and ErrUnknownOutcome", file, err)
		}
		must.Fail(t, <-secondDone, partd.ErrUnknownOutcome, "failing sync of %s: waiting Append", file)
		if err := <-flushed; err == nil || errors.Is(err, partd.ErrUnknownOutcome) {
			t.Errorf("failing sync of %s: concurrent Flush: error %v, want an error with a known outcome", file, err)
		}
		if err := s.Append(t.Context(), partd.Entry{Key: "three", Value: []byte("v")}); !errors.Is(err, partd.ErrNeedsReopen) || errors.Is(err, partd.ErrUnknownOutcome) {
			t.Errorf("failing sync of %s: later Append: error %v, want ErrNeedsReopen and a known outcome", file, err)
		}
		wantValue(t, afterPowerLoss(t, mem, opts), "before", string(largeValue))
		must.Fail(t, s.Close(), partd.ErrNeedsReopen, "failing sync of %s: Close", file)
	}
}

func (s *Store) nextRecord() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.seq
}

// TestAnySyncFailsUnderLoad makes each sync fail in turn while several goroutines append and sync.
// Everything acknowledged must survive a power failure.
func TestAnySyncFailsUnderLoad(t *testing.T) {
	for n := int64(1); n < 100; n++ {
		var calls atomic.Int64
		var failing atomic.Bool
		failed := make(chan struct{})
		mem := vfstest.NewMem()
		h := crashHooksOn(vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
			if op != vfstest.OpSync && op != vfstest.OpSyncDir {
				return nil
			}
			if calls.Add(1) == n {
				failing.Store(true)
				time.Sleep(2 * time.Millisecond) // give other appends time to arrive
				close(failed)
				return syscall.EIO
			}
			if failing.Load() { // these calls end after the failed sync
				<-failed
				time.Sleep(200 * time.Microsecond)
			}
			return nil
		}))
		opts := &Options{Sync: true}
		s, err := openHooked(crashDir, opts, h)
		if err != nil {
			continue // this sync belongs to Open
		}
		var acked [4][]byte
		var wg sync.WaitGroup
		for w := range acked {
			wg.Go(func() {
				for i := range 10 {
					v := bytes.Repeat(fmt.Appendf(nil, "%d,", i), []int{1, 50, 500}[(i+w)%3])
					if s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(w), Value: v}) != nil {
						return
					}
					acked[w] = append(acked[w], v...)
				}
			})
		}
		wg.Go(func() {
			for range 5 {
				// These calls only add syncs, so their results do not matter.
				_ = errors.Join(s.Flush(t.Context()), s.Sync(t.Context()))
			}
		})
		wg.Wait()
		after := afterPowerLoss(t, mem, opts)
		for w, want := range acked {
			got, err := after.Get(t.Context(), fmt.Sprint(w))
			if err != nil || !bytes.HasPrefix(got[0], want) {
				t.Fatalf("failing sync %d: %d bytes were acknowledged, but Get returns other data (%d bytes); error %v", n, len(want), len(got[0]), err)
			}
		}
		if err := s.Close(); err != nil && !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
	}
}

// TestFileCreatedDuringFirstSync creates a data file during the first Sync. A durable manifest may name
// the file, so its header must also be durable.
func TestFileCreatedDuringFirstSync(t *testing.T) {
	for _, blockedFile := range []string{"blob-", manifestTmpName} { // hold the append before it writes the header, or after it
		var armed atomic.Bool
		var once sync.Once
		blocked, proceed, written := make(chan struct{}), make(chan struct{}), make(chan struct{})
		mem := vfstest.NewMem()
		h := crashHooksOn(vfstest.Inject(mem, func(op vfstest.Op, name string) error {
			if !armed.Load() || op != vfstest.OpWrite {
				return nil
			}
			if strings.Contains(name, blockedFile) {
				once.Do(func() {
					close(blocked)
					<-proceed
				})
			}
			if info, err := mem.Info(name); strings.Contains(name, "blob-") && err == nil && info.Size > 0 {
				<-written // hold the write of the large value, for which no call waits
			}
			return nil
		}))
		s := openWith(t, crashDir, nil, h)
		mustAppend(t, s, "a", "v")
		armed.Store(true)
		appended, synced := make(chan error, 1), make(chan error, 1)
		go func() { appended <- s.Append(t.Context(), partd.Entry{Key: "b", Value: largeValue}) }()
		<-blocked
		go func() { synced <- s.Sync(t.Context()) }()
		time.Sleep(50 * time.Millisecond) // Sync begins to sync, but the test passes if it begins later
		close(proceed)
		must.Do(t, <-synced)
		wantValue(t, afterPowerLoss(t, mem, nil), "a", "v")
		close(written)
		must.Do(t, errors.Join(<-appended, s.Close()))
	}
}

// TestKilledInFirstSync simulates a process that is killed during its first Sync: after a new segment's
// manifest marked the store as durable, but before the directory's name was synced. Data that the
// next process syncs must survive a power failure.
func TestKilledInFirstSync(t *testing.T) {
	for seed := range uint64(20) {
		mem := vfstest.NewMem()
		h := crashHooksOn(mem)
		s := openWith(t, crashDir, &Options{Memory: MinMemory}, h)
		mustAppend(t, s, "key", "value")
		s.durable.Store(true) // as at the start of the first Sync
		must.Do(t, s.Flush(t.Context()))
		killed := mem.KillClone()
		must.Do(t, s.Close())
		h.fs = killed
		s = openWith(t, crashDir, &Options{Memory: MinMemory}, h)
		must.Do(t, s.Sync(t.Context()))
		h.fs = killed.Crash(rand.New(rand.NewPCG(seed, 1)))
		must.Do(t, s.Close())
		s = openWith(t, crashDir, &Options{Memory: MinMemory}, h)
		wantValue(t, s, "key", "value")
		must.Do(t, s.Close())
	}
}

// TestSyncOfHangingDisk checks that a caller can leave a Sync. The store must accept writes after a sync that is only
// slow, and refuse them if the disk hangs.
func TestSyncOfHangingDisk(t *testing.T) {
	for _, isFirst := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var hanging atomic.Pointer[chan struct{}]
			h := crashHooksOn(vfstest.Inject(vfstest.NewMem(), func(op vfstest.Op, _ string) error {
				if proceed := hanging.Load(); proceed != nil && op == vfstest.OpSync {
					<-*proceed
				}
				return nil
			}))
			s := must.Get(openHooked(crashDir, nil, h))(t)
			if !isFirst {
				must.Do(t, s.Sync(t.Context()))
			}
			for _, c := range []struct {
				lasts time.Duration
				want  error
			}{{hangTime - time.Second, nil}, {2 * hangTime, partd.ErrNeedsReopen}} {
				mustAppend(t, s, "k", "v")
				proceed := make(chan struct{})
				hanging.Store(&proceed)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				begin := time.Now()
				must.Fail(t, s.Sync(ctx), context.DeadlineExceeded, "Sync of a disk that hangs")
				cancel()
				if d := time.Since(begin); d != time.Second {
					t.Errorf("Sync returned after %v, want 1s", d)
				}
				time.Sleep(c.lasts)
				synctest.Wait()
				hanging.Store(nil)
				if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("w")}); !errors.Is(err, c.want) {
					t.Errorf("first Sync: %t, Append %v after a canceled Sync = %v, want %v", isFirst, c.lasts, err, c.want)
				}
				close(proceed)
				synctest.Wait()
			}
			must.Fail(t, s.Close(), partd.ErrNeedsReopen, "Close")
		})
	}
}

// TestSyncWaitingForLocks checks that the disk does not count as hanging while an abandoned Sync waits for other calls,
// before the store begins to sync a file. The test has no such calls, because a bubble does not see that they wait.
func TestSyncWaitingForLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must.Get(openHooked(crashDir, nil, crashHooksOn(vfstest.NewMem())))(t)
		done := make(chan struct{})
		go s.watchSync(done)
		time.Sleep(2*hangTime + time.Second)
		synctest.Wait()
		mustAppend(t, s, "k", "v")
		close(done)
		must.Do(t, s.Close())
	})
}
