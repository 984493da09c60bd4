package logstore

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestFaultThenPowerLoss makes each file system call of each operation fail, then calls Sync and
// simulates a power failure. The content must be correct. An outcome may be reported as unknown
// only if the operation may have taken effect.
func TestFaultThenPowerLoss(t *testing.T) {
	errnos := []error{syscall.ENOSPC, syscall.EIO}
	tryAll := os.Getenv("PARTD_FAULTS") != ""
	synced := 0
	for _, opts := range []*Options{{}, {Sync: true}} {
		start, before := faultStart(t, opts)
		seen := readings{}
		for i, step := range faultSteps() {
			if step.name == "close" {
				continue // a closed store cannot be synced
			}
			after := maps.Clone(before)
			step.want(after)
			for n, hit := int64(1), true; hit; n++ {
				errnosPerCall := errnos
				if !tryAll {
					errnosPerCall = errnos[(int(n)+i)%len(errnos):][:1]
				}
				for _, errno := range errnosPerCall {
					mem := start.KillClone()
					fault := &vfstest.Fault{Call: n, Err: errno, ShortWrite: n%3 == 0}
					if checkPowerLossAfterFault(t, mem, opts, fault, step, before, after, seen) {
						synced++
					}
					hit = fault.Hit()
				}
			}
		}
	}
	if synced < 100 {
		t.Errorf("Sync succeeded after only %d faults, want at least 100", synced)
	}
}

// checkPowerLossAfterFault runs step with one injected fault, calls Sync, and simulates power
// failures. It checks that the reopened store has a content that step's error allows, and reports
// whether Sync succeeded.
func checkPowerLossAfterFault(t *testing.T, mem *vfstest.Mem, opts *Options, fault *vfstest.Fault, step faultStep, before, after map[string][]byte, seen readings) bool {
	t.Helper()
	enabled := make(chan struct{}, 1)
	fault.Match = func(vfstest.Op, string) bool { return len(enabled) == 1 }
	var desc string
	h := crashHooks
	h.fs = vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		err := fault.Check(op, name)
		if err != nil {
			desc = op.String() + " " + name
		}
		return err
	})
	s := openWith(t, crashDir, opts, h)
	defer s.Close()
	enabled <- struct{}{}
	err := step.do(t.Context(), s)
	<-enabled
	allowed := []map[string][]byte{before}
	switch {
	case err == nil:
		allowed[0] = after
	case errors.Is(err, partd.ErrUnknownOutcome):
		allowed = append(allowed, after)
	}
	if fault.Hit() && errors.Is(err, partd.ErrUnknownOutcome) && !maps.EqualFunc(before, after, bytes.Equal) {
		got, e := seen.read(mem.KillClone(), opts)
		must.Do(t, e)
		// The store cannot know whether a failed rename took effect, so it may report an unknown
		// outcome even if the rename had no effect.
		if !maps.EqualFunc(got, after, bytes.Equal) && !strings.HasPrefix(desc, "rename ") {
			t.Errorf("%s, Sync option %t, %s failed: the outcome was reported as unknown, but the operation had no effect: %v", step.name, opts.Sync, desc, err)
		}
	}
	syncErr := s.Sync(t.Context())
	if syncErr != nil && !opts.Sync {
		return false // no change was acknowledged as durable
	}
	for seed := range uint64(3) {
		var rnd *rand.Rand
		if seed > 0 {
			rnd = rand.New(rand.NewPCG(uint64(fault.Call), seed))
		}
		got, e := seen.read(mem.Crash(rnd), opts)
		if e != nil {
			t.Fatalf("%s, Sync option %t, %s failed (%v), then Sync returned %v: after a power failure: %v", step.name, opts.Sync, desc, err, syncErr, e)
		}
		isAllowed := false
		for _, m := range allowed {
			isAllowed = isAllowed || maps.EqualFunc(got, m, bytes.Equal)
		}
		if !isAllowed {
			t.Fatalf("%s, Sync option %t, %s failed (%v), then Sync returned %v: wrong content with %d keys after a power failure", step.name, opts.Sync, desc, err, syncErr, len(got))
		}
	}
	return syncErr == nil
}

// TestFullDiskOutcomesAreKnown checks that a store on a full disk allows reads and Drop, and refuses other changes.
func TestFullDiskOutcomesAreKnown(t *testing.T) {
	mem := vfstest.NewMem()
	h := crashHooksOn(mem)
	s := openWith(t, crashDir, nil, h)
	mustAppend(t, s, "k", "v")
	must.Do(t, s.Close())
	failed := map[string]bool{}
	h.fs = vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		switch {
		case op == vfstest.OpWrite && !strings.HasSuffix(name, lockName):
			if _, before := failed[name]; !before {
				failed[name] = true
			}
			return syscall.ENOSPC
		case op == vfstest.OpRead && failed[name]: // the store cannot read back what it wrote
			failed[name] = false
			return syscall.EIO
		}
		return nil
	})
	s = openWith(t, crashDir, nil, h)
	ops, _ := sizedChanges(partd.Tag{Session: 1, Number: 1}, 10)
	for name, op := range ops {
		mustBeFull(t, name, op(t.Context(), s))
	}
	for _, step := range faultSteps() {
		switch err := step.do(t.Context(), s); step.name {
		case "append", "append a large value", "append a large batch", "set", "set once", "delete", "pop", "flush", "sync":
			mustBeFull(t, step.name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
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
