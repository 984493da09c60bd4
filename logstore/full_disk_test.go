package logstore

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// diskFull returns a file system that is full while full is set: it rejects the creation of
// files, and writes. If spare is set, it accepts writes to the renamed spare file, whose blocks are
// already allocated.
func diskFull(mem *vfstest.Mem, full *atomic.Bool, spare bool) vfs.FS {
	return failingCreates{vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if !full.Load() || op != vfstest.OpWrite || strings.HasSuffix(name, lockName) {
			return nil
		}
		_, used := mem.Info(strings.TrimSuffix(name, manifestTmpName) + spareName)
		if spare && strings.HasSuffix(name, manifestTmpName) && used != nil {
			return nil // the temporary manifest is the renamed spare file
		}
		return syscall.ENOSPC
	}), full}
}

// failingCreates rejects the creation of files while full is set.
type failingCreates struct {
	vfs.FS
	full *atomic.Bool
}

func (n failingCreates) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	if _, err := n.Info(name); err != nil && flag&os.O_CREATE != 0 && n.full.Load() {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	}
	return n.FS.OpenFile(name, flag, perm)
}

// mustBeFull checks the error of a change that must fail on a full disk.
func mustBeFull(t *testing.T, desc string, err error) {
	t.Helper()
	if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, partd.ErrUnknownOutcome) || errors.Is(err, partd.ErrNeedsReopen) {
		t.Fatalf("%s on a full disk: error %v, want ENOSPC and a known outcome", desc, err)
	}
}

func wantContents(t *testing.T, s *Store, want map[string][]byte) {
	t.Helper()
	got, err := contents(s)
	if err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("Scan yielded wrong contents: %d keys, want %d; error %v", len(got), len(want), err)
	}
	var size int64
	for k, v := range want {
		wantValue(t, s, k, string(v))
		size += int64(len(v))
	}
	st, err := s.Stat(t.Context())
	if err != nil || st.Keys != int64(len(want)) || st.Bytes != size {
		t.Fatalf("Stat counts %d keys, want %d, and %d bytes, want %d; error %v", st.Keys, len(want), st.Bytes, size, err)
	}
	for k, err := range s.Keys(t.Context()) {
		if err != nil || k.Size != int64(len(want[k.Key])) {
			t.Fatalf("Keys yielded size %d for key %q (error %v), want %d", k.Size, k.Key, err, len(want[k.Key]))
		}
	}
}

// TestFullDiskDrop checks that a store on a full disk can be read and dropped, after a clean
// shutdown and after a kill. When there is space, it must accept changes.
func TestFullDiskDrop(t *testing.T) {
	for _, sync := range []bool{false, true} {
		for _, killed := range []bool{false, true} {
			mem := vfstest.NewMem()
			var full atomic.Bool
			h := crashHooksOn(diskFull(mem, &full, true))
			opts := &Options{Memory: MinMemory, Sync: sync}
			s := openWith(t, crashDir, opts, h)
			session := newSession(t, s)
			for range 30 {
				mustAppend(t, s, "k", strings.Repeat("v", 300))
			}
			want := strings.Repeat("v", 9000)
			if killed {
				mem = mem.KillClone()
				h.fs = diskFull(mem, &full, true)
			}
			must.Do(t, s.Close())
			full.Store(true)
			for range 2 { // opening must not change the store
				s = openWith(t, crashDir, opts, h)
				wantContents(t, s, map[string][]byte{"k": []byte(want)})
				err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")})
				if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "full") {
					t.Fatalf("Append: error %v, want ENOSPC with a message about the full disk", err)
				}
				must.Do(t, s.Close())
			}
			s = openWith(t, crashDir, opts, h)
			r := must.Get(s.Open(t.Context(), "k"))(t)
			if err := s.Drop(t.Context()); err != nil {
				t.Fatalf("killed %t, Sync option %t: Drop on a full disk: %v", killed, sync, err)
			}
			wantValue(t, s, "k", "")
			must.Do(t, errors.Join(r.Close(), s.Close()))
			full.Store(false)
			s = openWith(t, crashDir, opts, h)
			wantValue(t, s, "k", "")
			op := partd.Operation{Change: partd.ChangeAppend, Entries: []partd.Entry{{Key: "k", Value: []byte("new")}}}
			if applied, err := s.Apply(t.Context(), partd.Tag{Session: session, Number: 1}, op); err != nil || !applied {
				t.Fatalf("Apply in the old session after Drop = %v, %v, want true", applied, err)
			}
			wantValue(t, s, "k", "new")
			must.Do(t, s.Close())
		}
	}
}

// TestFullDiskDropFails checks that Drop changes nothing if even the spare file cannot be used.
func TestFullDiskDropFails(t *testing.T) {
	mem := vfstest.NewMem()
	var full atomic.Bool
	h := crashHooksOn(diskFull(mem, &full, false))
	s := openWith(t, crashDir, nil, h)
	mustAppend(t, s, "k", "v")
	must.Do(t, s.Close())
	full.Store(true)
	s = openWith(t, crashDir, nil, h)
	if err := s.Drop(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Drop: error %v, want ENOSPC", err)
	}
	wantValue(t, s, "k", "v")
	must.Do(t, s.Close())
	full.Store(false)
	wantContent(t, mem, map[string][]byte{"k": []byte("v")})
}

func TestFullDiskNew(t *testing.T) {
	var full atomic.Bool
	full.Store(true)
	h := crashHooksOn(diskFull(vfstest.NewMem(), &full, true))
	if s, err := openHooked(crashDir, nil, h); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("open = %v, error %v, want ENOSPC", s, err)
	}
}

// TestDropAfterReadOnlyRecovery opens a store after a crash, while the disk is full, so that the
// records of its write-ahead files stay in memory. When there is space, a Drop must make the
// store accept changes. A reader of an old value must continue to work.
func TestDropAfterReadOnlyRecovery(t *testing.T) {
	mem := vfstest.NewMem()
	h := crashHooksOn(mem)
	first := openWith(t, crashDir, nil, h)
	old := strings.Repeat("v", 300)
	mustAppend(t, first, "k", old)
	killed := mem.KillClone()
	must.Do(t, first.Close())
	var full atomic.Bool
	full.Store(true)
	h.fs = diskFull(killed, &full, true)
	s := openWith(t, crashDir, nil, h)
	if len(s.tables.walTables) == 0 {
		t.Fatal("open recovered no records into memory, so the test would prove nothing")
	}
	wantContents(t, s, map[string][]byte{"k": []byte(old)})
	r := must.Get(s.Open(t.Context(), "k"))(t)
	full.Store(false)
	for range 3 {
		must.Do(t, s.Drop(t.Context()))
		wantContents(t, s, map[string][]byte{})
		want := map[string][]byte{}
		for range 40 { // more than a table can contain
			mustAppend(t, s, "k", old)
			want["k"] = append(want["k"], old...)
		}
		wantContents(t, s, want)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != old {
		t.Fatalf("the reader returned %d bytes (error %v), want %d", len(b), err, len(old))
	}
	must.Do(t, r.Close())
	must.Do(t, s.Close())
	if n := killed.OpenCount(); n > 0 {
		t.Fatalf("%d files are still open after Close", n)
	}
}
