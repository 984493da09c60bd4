package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
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
	s := openWith(t, crashDir, nil, crashHooksOn(vfstest.Inject(mem, failSegmentWrites(&full))))
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
	s := openWith(t, crashDir, nil, crashHooksOn(mem))
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
	for _, byOption := range []bool{false, true} { // Sync is a call, or an option of the second process
		mem := vfstest.NewMem()
		h := crashHooksOn(mem)
		s := openWith(t, crashDir, nil, h)
		if !byOption {
			must.Do(t, s.Sync(t.Context()))
		}
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "b", Value: largeValue}))
		killed := mem.KillClone()
		must.Do(t, s.Close())
		h.fs = killed
		s = openWith(t, crashDir, &Options{Sync: byOption}, h)
		want := map[string][]byte{"b": largeValue}
		if byOption {
			mustAppend(t, s, "c", "acknowledged")
			want["c"] = []byte("acknowledged")
		} else {
			must.Do(t, s.Sync(t.Context()))
		}
		crashed := killed.Crash(nil)
		must.Do(t, s.Close())
		wantContent(t, crashed, want)
	}
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

// eachCall runs do on a store's files, and calls check before each call that changes them.
func eachCall(t *testing.T, mem *vfstest.Mem, opts *Options, do func(s *Store), check func(op vfstest.Op)) {
	t.Helper()
	var mu sync.Mutex // background goroutines change files, too
	h := crashHooksOn(vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
		if op.Changes() {
			mu.Lock()
			defer mu.Unlock()
			check(op)
		}
		return nil
	}))
	s := openWith(t, crashDir, opts, h)
	do(s)
	must.Do(t, s.Close())
}

// TestPowerLossAfterKill kills a store with the option Sync before each sync of a directory or, if PARTD_KILLS is set,
// before each call. It then opens the store, and simulates power losses before each call of Open and Close: the killed
// process may have renamed a file without syncing the directory, and a power loss undoes that.
func TestPowerLossAfterKill(t *testing.T) {
	opts := &Options{Sync: true, Memory: MinMemory}
	start, before := faultStart(t, opts)
	killsEverywhere := os.Getenv("PARTD_KILLS") != ""
	losses, seen := 0, readings{}
	for _, step := range faultSteps() {
		switch step.name {
		case "append", "append a large batch", "drop", "flush", "close":
		default:
			continue
		}
		after := maps.Clone(before)
		step.want(after)
		var killed []*vfstest.Mem
		mem := start.KillClone()
		eachCall(t, mem, opts, func(s *Store) { must.Do(t, step.do(t.Context(), s)) }, func(op vfstest.Op) {
			if op == vfstest.OpSyncDir || killsEverywhere {
				killed = append(killed, mem.KillClone())
			}
		})
		for k, mem := range killed {
			var lost []*vfstest.Mem
			eachCall(t, mem, opts, func(*Store) {}, func(vfstest.Op) {
				lost = append(lost, mem.Crash(nil), mem.Crash(rand.New(rand.NewPCG(uint64(k), 1))))
			})
			for l, mem := range lost {
				got, err := seen.read(mem, opts)
				if err != nil {
					t.Fatalf("%s, killed at call %d, power loss %d: %v", step.name, k, l, err)
				}
				if !maps.EqualFunc(got, before, bytes.Equal) && !maps.EqualFunc(got, after, bytes.Equal) {
					t.Fatalf("%s, killed at call %d, power loss %d: wrong content with %d keys", step.name, k, l, len(got))
				}
				losses++
			}
		}
	}
	if losses < 1000 {
		t.Errorf("there were %d power losses, want at least 1000", losses)
	}
}
