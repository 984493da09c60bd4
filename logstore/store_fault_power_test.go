package logstore

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

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
