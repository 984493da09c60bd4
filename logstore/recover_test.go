package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// killedStore returns the files of a store after a kill, with two write-ahead files in use if frozen is set.
func killedStore(t *testing.T, frozen bool) (*vfstest.Mem, map[string][]byte) {
	t.Helper()
	mem := vfstest.NewMem()
	var full atomic.Bool
	h := crashHooksOn(vfstest.Inject(mem, failSegmentWrites(&full)))
	s := openWith(t, crashDir, nil, h)
	full.Store(frozen)
	want := map[string][]byte{}
	for i := range 60 {
		if !frozen && i == 12 {
			break
		}
		key := fmt.Sprint("key", i)
		err := s.Append(t.Context(), partd.Entry{Key: key, Value: longValue})
		if frozen && errors.Is(err, syscall.ENOSPC) {
			break
		}
		must.Do(t, err)
		want[key] = longValue
	}
	if inUse := s.tables.frozen != nil; inUse != frozen {
		t.Fatalf("two write-ahead files are in use: %v, want %v", inUse, frozen)
	}
	killed := mem.KillClone()
	full.Store(false)
	must.Do(t, s.Close())
	return killed, want
}

func failSegmentWrites(enabled *atomic.Bool) func(op vfstest.Op, name string) error {
	return func(op vfstest.Op, name string) error {
		if enabled.Load() && op == vfstest.OpWrite && strings.Contains(name, "seg-") {
			return syscall.ENOSPC
		}
		return nil
	}
}

func wantContent(t *testing.T, mem *vfstest.Mem, want map[string][]byte) {
	t.Helper()
	h := crashHooksOn(mem)
	s := openWith(t, crashDir, nil, h)
	got, err := contents(s)
	if err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("the store has wrong contents: %d keys, want %d; error %v", len(got), len(want), err)
	}
	must.Do(t, s.Close())
}

// TestRecoveryFailsRepeatedly checks that no data is lost if recovery fails repeatedly on a full disk.
func TestRecoveryFailsRepeatedly(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		t.Run(fmt.Sprint("frozen=", frozen), func(t *testing.T) {
			mem, want := killedStore(t, frozen)
			var full atomic.Bool
			full.Store(true)
			h := crashHooksOn(vfstest.Inject(mem, failSegmentWrites(&full)))
			for i := range 8 {
				s, err := openHooked(crashDir, nil, h)
				if err != nil {
					t.Fatalf("open %d on a full disk: %v", i, err)
				}
				if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("v")}); !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("Append after open %d on a full disk: error %v, want ENOSPC", i, err)
				}
				if got, err := contents(s); err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
					t.Fatalf("open %d: the store has wrong contents: %d keys, want %d; error %v", i, len(got), len(want), err)
				}
				must.Do(t, s.Close())
			}
			wantContent(t, mem, want)
		})
	}
}

// TestRecoveryIsKilledRepeatedly checks that no data is lost if recovery is killed repeatedly at the same call.
func TestRecoveryIsKilledRepeatedly(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		start, want := killedStore(t, frozen)
		for n := 1; ; n++ {
			mem, reached := start.KillClone(), false
			for range 6 {
				calls := 0
				var killed *vfstest.Mem
				h := crashHooks
				call := mem
				h.fs = vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
					if op.Changes() {
						if calls++; calls == n {
							killed = call.KillClone()
						}
					}
					return nil
				})
				s, err := openHooked(crashDir, nil, h)
				if err != nil {
					t.Fatalf("frozen=%v, recovery killed at call %d: opening the store: %v", frozen, n, err)
				}
				opened := killed == nil
				must.Do(t, s.Close())
				if opened {
					break
				}
				mem, reached = killed, true
			}
			wantContent(t, mem, want)
			if !reached {
				break
			}
		}
	}
}

// TestSyncCoversKilledProcess checks that Sync covers data that a killed process wrote.
func TestSyncCoversKilledProcess(t *testing.T) {
	mem := vfstest.NewMem()
	h := crashHooksOn(mem)
	s := openWith(t, crashDir, nil, h)
	must.Do(t, s.Sync(t.Context()))
	must.Do(t, s.Append(t.Context(), partd.Entry{Key: "b", Value: largeValue}))
	killed := mem.KillClone()
	must.Do(t, s.Close())
	h.fs = killed
	s = openWith(t, crashDir, nil, h)
	must.Do(t, s.Sync(t.Context()))
	crashed := killed.Crash(nil)
	must.Do(t, s.Close())
	wantContent(t, crashed, map[string][]byte{"b": largeValue})
}

// TestUnacknowledgedLargeValue checks that a large value that was not acknowledged before a kill does
// not damage the store after a later power failure.
func TestUnacknowledgedLargeValue(t *testing.T) {
	mem := vfstest.NewMem()
	var armed atomic.Bool
	var killed *vfstest.Mem
	h := crashHooks
	h.fs = vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
		if armed.Load() && op == vfstest.OpSync && killed == nil {
			killed = mem.KillClone()
		}
		return nil
	})
	opts := &Options{Sync: true}
	s := openWith(t, crashDir, opts, h)
	for _, e := range []partd.Entry{{Key: "a", Value: largeValue}, {Key: "b", Value: largeValue}} {
		must.Do(t, s.Append(t.Context(), e))
		armed.Store(true)
	}
	must.Do(t, s.Close())
	h.fs = killed
	s = openWith(t, crashDir, opts, h)
	must.Do(t, s.Append(t.Context(), partd.Entry{Key: "c", Value: []byte("acknowledged")}))
	crashed := killed.Crash(nil)
	must.Do(t, s.Close())
	wantContent(t, crashed, map[string][]byte{"a": largeValue, "b": largeValue, "c": []byte("acknowledged")})
}

// TestTornFileIsErased checks that recovery erases the newest write-ahead file if a power failure
// has torn its first record. Otherwise, the file's later records could follow a new first record.
func TestTornFileIsErased(t *testing.T) {
	mem := vfstest.NewMem()
	var full atomic.Bool
	h := crashHooksOn(vfstest.Inject(mem, failSegmentWrites(&full)))
	s := openWith(t, crashDir, nil, h)
	mustAppend(t, s, "a", "1")
	must.Do(t, s.Sync(t.Context()))
	full.Store(true)
	if err := s.Flush(t.Context()); !errors.Is(err, syscall.ENOSPC) { // begins the next write-ahead file
		t.Fatalf("Flush on a full disk: error %v, want ENOSPC", err)
	}
	mustAppend(t, s, "b", "2")
	mustAppend(t, s, "c", "3")
	newest := s.tables.active.wal.path
	torn := mem.KillClone()
	full.Store(false)
	must.Do(t, s.Close())
	changeByte(t, torn, newest, walHeaderLen+recordHeaderLen, func(b byte) byte { return ^b })
	h.fs = torn
	s = openWith(t, crashDir, nil, h)
	mustAppend(t, s, "d", "4") // as long as the torn record
	killed := torn.KillClone()
	must.Do(t, s.Close())
	wantContent(t, killed, map[string][]byte{"a": []byte("1"), "d": []byte("4")})
}
