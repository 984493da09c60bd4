package logstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/partdtest"
	"pgregory.net/rapid"
)

var osFS = vfs.OS{}

// openWith opens a store that the caller must close.
func openWith(t rapid.TB, dir string, opts *Options, h hooks) *Store {
	t.Helper()
	return must.Get(openHooked(dir, opts, h))(t)
}

// mustOpen opens a store that is closed at the end of the test.
func mustOpen(t *testing.T, dir string, opts *Options) *Store {
	t.Helper()
	s := openWith(t, dir, opts, hooks{fs: osFS})
	t.Cleanup(func() { must.Do(t, s.Close()) })
	return s
}

func newSession(t testing.TB, s *Store) uint64 {
	t.Helper()
	return must.Get(s.NewSession(t.Context()))(t)
}

func mustAppend(t *testing.T, s *Store, key, value string) {
	t.Helper()
	must.Do(t, s.Append(t.Context(), partd.Entry{Key: key, Value: []byte(value)}))
}

func mustVerify(t *testing.T, s *Store) {
	t.Helper()
	must.Get(s.verify(t.Context()))(t)
}

func wantValue(t *testing.T, s *Store, key, want string) {
	t.Helper()
	got, err := s.Get(t.Context(), key)
	if err != nil || string(got[0]) != want {
		t.Fatalf("Get(%q) = %.100q, %v, want %.100q", key, got, err, want)
	}
}

// TestOptions checks that invalid options are rejected, and that ParseCompression and String match.
func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Memory: -1}, {Memory: MinMemory - 1}, {Memory: MaxMemory + 1}, {FileSize: -1}, {MaxSessions: -1}, {Compression: 9},
	} {
		if s, err := Open(t.TempDir(), &o); err == nil {
			t.Errorf("Open accepted the options %+v", o)
			_ = s.Close()
		}
	}
	for _, c := range []Compression{None, S2, Zstd} {
		if got, err := ParseCompression(c.String()); err != nil || got != c {
			t.Errorf("ParseCompression(%q) = %v, %v, want the same format", c, got, err)
		}
	}
	must.Fail(t, must.Err(ParseCompression("lzw")), "zstd", "ParseCompression(lzw)")
}

// TestLock checks that Open rejects a store that is in use, and names the process that uses it.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, nil)
	mustAppend(t, s, "a", "1")
	host := must.Get(os.Hostname())(t)
	for _, o := range []*Options{nil, {ReadOnly: true}} {
		_, err := Open(dir, o)
		if !errors.Is(err, partd.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d on %s (logstore.test, since ", os.Getpid(), host)) {
			t.Fatalf("second Open: error %v, want ErrInUse with this process", err)
		}
	}
	must.Do(t, s.Close())
	r1 := mustOpen(t, dir, &Options{ReadOnly: true})
	r2 := mustOpen(t, dir, &Options{ReadOnly: true})
	wantValue(t, r1, "a", "1")
	wantValue(t, r2, "a", "1")
	// The lock file can name only a writer, but readers hold the lock. So the error must not name a process.
	if _, err := Open(dir, nil); !errors.Is(err, partd.ErrInUse) || !strings.Contains(err.Error(), "open for reading") || strings.Contains(err.Error(), "process ") {
		t.Fatalf("Open for writing while readers exist: error %v, want ErrInUse without a process", err)
	}
	if err := r1.Append(t.Context(), partd.Entry{Key: "a", Value: []byte("2")}); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("Append to a read-only store: error %v, want ErrReadOnly", err)
	}
	must.Fail(t, r1.Drop(t.Context()), ErrReadOnly, "Drop of a read-only store")
}

// TestLockFileRemoved deletes the lock file, so that another process could open the store. The store
// must notice the deletion before it changes files that the other process may have changed.
func TestLockFileRemoved(t *testing.T) {
	dir := t.TempDir()
	s := must.Get(Open(dir, nil))(t)
	mustAppend(t, s, "a", "1")
	must.Do(t, os.Remove(filepath.Join(dir, lockName)))
	if err := s.Flush(t.Context()); !errors.Is(err, errLockLost) {
		t.Fatalf("Flush without the lock file: error %v, want errLockLost", err)
	}
	if err := s.Append(t.Context(), partd.Entry{Key: "a", Value: []byte("2")}); !errors.Is(err, partd.ErrNeedsReopen) {
		t.Fatalf("Append without the lock file: error %v, want ErrNeedsReopen", err)
	}
	wantValue(t, s, "a", "1")
	if err := s.Close(); err == nil {
		t.Fatal("Close returned no error")
	}
	s = mustOpen(t, dir, nil)
	wantValue(t, s, "a", "1")
}

// networkFS is a network file system. Its flock excludes nobody, as if every process were on another machine.
type networkFS struct{ vfs.OS }

func (networkFS) Network(string) string { return "NFS" }

func (n networkFS) NewLock(name string) vfs.Lock { return uselessLock{n.OS, name} }

type uselessLock struct {
	vfs.FS
	name string
}

func (uselessLock) TryLock(bool) (bool, error) { return true, nil }
func (uselessLock) Lock(bool) error            { return nil }
func (uselessLock) Unlock() error              { return nil }
func (l uselessLock) Info() (vfs.Info, error)  { return l.FS.Info(l.name) }

// TestClaimOfAnotherMachine checks that a store on a network file system opens only if no process on another machine has
// the claim. If another process takes the claim from an open store, the store stops writing before it changes files.
func TestClaimOfAnotherMachine(t *testing.T) {
	dir := t.TempDir()
	claim := filepath.Join(dir, lockName+".holder")
	o := new(Options)
	foreign := []byte("process 7 on elsewhere (partd, since 2026-01-02T03:04:05Z)\n1 boot\n")
	must.Do(t, os.WriteFile(filepath.Join(dir, lockName), nil, 0o666))
	for _, readOnly := range []bool{false, true} {
		must.Do(t, os.WriteFile(claim, foreign, 0o666))
		o.ReadOnly = readOnly
		_, err := openHooked(dir, o, hooks{fs: networkFS{}})
		if !errors.Is(err, partd.ErrInUse) || !strings.Contains(err.Error(), "process 7 on elsewhere") || !strings.Contains(err.Error(), "remove "+claim) {
			t.Errorf("Open(ReadOnly: %v) with a claim: %v, want ErrInUse with the process and the claim", readOnly, err)
		}
		must.Do(t, os.Remove(claim))
		s, err := openHooked(dir, o, hooks{fs: networkFS{}})
		must.Do(t, err)
		if readOnly {
			wantValue(t, s, "a", "1")
			must.Do(t, s.Close())
			continue
		}
		mustAppend(t, s, "a", "1")
		must.Do(t, s.Close())
		must.Fail(t, must.Err(os.Stat(claim)), os.ErrNotExist, "the claim after Close")
	}
	o.ReadOnly = false
	s := must.Get(openHooked(dir, o, hooks{fs: networkFS{}}))(t)
	mustAppend(t, s, "a", "2")
	must.Do(t, os.WriteFile(claim, foreign, 0o666))
	must.Fail(t, s.Flush(t.Context()), partd.ErrInUse, "Flush with a claim of another process")
	must.Fail(t, s.Append(t.Context(), partd.Entry{Key: "a", Value: []byte("3")}), partd.ErrNeedsReopen, "Append with a claim of another process")
	if err := s.Close(); err == nil {
		t.Error("Close returned no error")
	}
	if got := must.Get(os.ReadFile(claim))(t); string(got) != string(foreign) {
		t.Errorf("after Close, the claim is %q", got)
	}
}

// fullFS is a network file system without space for another file.
type fullFS struct{ networkFS }

func (f fullFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if flag&os.O_EXCL != 0 {
		return nil, syscall.ENOSPC
	}
	return f.networkFS.OpenFile(name, flag, perm)
}

// TestClaimNeedsSpace checks that a store on a network file system does not open without a claim.
func TestClaimNeedsSpace(t *testing.T) {
	dir := t.TempDir()
	must.Do(t, openWith(t, dir, nil, hooks{fs: osFS}).Close())
	_, err := openHooked(dir, new(Options), hooks{fs: fullFS{}})
	must.Fail(t, err, syscall.ENOSPC, "Open without space for the claim")
}

func TestOpenWithoutStore(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none"), &Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open for reading in a missing directory: error %v, want ErrNotExist", err)
	}
	must.Fail(t, must.Err(Open(dir, &Options{ReadOnly: true})), os.ErrNotExist, "Open for reading in an empty directory")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("Open for reading left %v in the directory (error %v), want nothing, not even a lock file", entries, err)
	}
	file := filepath.Join(dir, "file")
	must.Do(t, os.WriteFile(file, nil, 0o666))
	if _, err := Open(file, nil); err == nil {
		t.Error("Open accepted a file as a store")
	}
	link := filepath.Join(dir, "link")
	must.Do(t, os.Symlink(t.TempDir(), link))
	must.Fail(t, must.Err(Open(link, nil)), "symbolic link", "Open of a symbolic link")
	if _, err := Open("", nil); err == nil {
		t.Error("Open accepted an empty directory name")
	}
}

func TestChangeOfDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	s := mustOpen(t, "a/b", nil)
	t.Chdir(t.TempDir())
	mustAppend(t, s, "k", "v")
	must.Do(t, s.Flush(t.Context()))
	wantValue(t, s, "k", "v")
	if entries, err := os.ReadDir("."); err != nil || len(entries) > 0 {
		t.Fatalf("the new working directory contains %v (error %v), want nothing", entries, err)
	}
}

func TestMetrics(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	s := must.Get(Open(dir, &Options{Memory: MinMemory}))(t)
	metrics := func() Metrics {
		t.Helper()
		return must.Get(s.Metrics())(t)
	}
	if f := metrics(); f.Seals+f.Stalls+f.SealFailures+f.UnsealedBytes+f.DeadBytes != 0 || f.Segments != 0 || f.Refusal != nil {
		t.Errorf("metrics of a new store: %+v, want zero", f)
	}
	must.Do(t, s.Append(ctx, partd.Entry{Key: "k", Value: make([]byte, 1000)}))
	if f := metrics(); f.UnsealedBytes < 1000 || f.UnsealedBytes > 1100 || f.UnsealedBytes != s.UnsealedBytes() || f.Seals != 0 {
		t.Errorf("metrics after an append of 1000 bytes: %+v, want 1000 to 1100 unsealed bytes and no seals", f)
	}
	must.Do(t, s.Flush(ctx))
	if f := metrics(); f.UnsealedBytes != 0 || f.Seals != 1 || f.Segments != 1 || f.DiskBytes < 1000 || f.MemoryUsed <= 0 {
		t.Errorf("metrics after a flush: %+v, want one segment", f)
	}
	st, err := s.Stat(ctx)
	if f := metrics(); err != nil || f.DiskBytes != st.Disk {
		t.Errorf("Metrics() = %+v, but Stat() = %+v, %v, want the same size on disk", f, st, err)
	}
	must.Concurrently(4, func(w int) {
		for i := range 400 {
			must.Check(t, s.Append(ctx, partd.Entry{Key: fmt.Sprint(w, i%100), Value: make([]byte, 10_000)}))
		}
	})
	if f := metrics(); f.Stalls == 0 || f.StallTime <= 0 || f.Seals < 5 {
		t.Errorf("metrics after appends of 16 MB with 4 MiB of memory: %+v, want stalls and seals", f)
	}
	must.Do(t, s.Close())
	must.Fail(t, must.Err(s.Metrics()), partd.ErrClosed, "Metrics of a closed store")
	s = must.Get(Open(dir, &Options{ReadOnly: true}))(t)
	defer s.Close()
	if f := metrics(); !errors.Is(f.Refusal, ErrReadOnly) {
		t.Errorf("metrics of a read-only store: %+v, want ErrReadOnly as Refusal", f)
	}
}

var abilities = []partdtest.Ability{
	partdtest.CanSet, partdtest.CanDelete, partdtest.CanPop, partdtest.CanList, partdtest.CanOpen,
	partdtest.CanScan, partdtest.CanFlush, partdtest.CanSync, partdtest.CanStat, partdtest.CanApply, partdtest.CanClose,
}

// smallTables are hooks for small tables and buffers, so that a few appends fill a table and
// scans must divide their ranges. A key of 65,535 bytes still fits.
var smallTables = hooks{tableBytes: 320 << 10, blobBytes: 4 << 10, readBytes: 64 << 10, batchBytes: 8 << 10}

// lendingHooks are hooks for tables that are small, but large enough to be lent to scans.
var lendingHooks = hooks{tableBytes: 512 << 10, maxBatch: 80 << 10, blobBytes: 4 << 10, readBytes: 64 << 10, batchBytes: 8 << 10}

// byteHash is a hash in which only the highest 8 bits can be set.
func byteHash(key string) uint64 {
	var h uint64
	for i := range len(key) {
		h = h*31 + uint64(key[i])
	}
	return h << 56
}

// TestKeepsPromises runs the conformance suite on disk and in memory, with different options.
// For most options, it runs only the state machine unless PARTD_ALL_LAYERS is set.
func TestKeepsPromises(t *testing.T) {
	withHash := func(h hooks, hash func(string) uint64) hooks {
		h.hash = hash
		return h
	}
	for _, c := range []struct {
		name string
		opts Options
		h    hooks
	}{
		{"default", Options{}, hooks{fs: vfs.OS{}}},
		{"minimum memory", Options{Memory: MinMemory, FileSize: 1 << 20}, hooks{}},
		{"sync", Options{Sync: true, Memory: MinMemory}, smallTables},
		{"lent tables", Options{Memory: MinMemory}, lendingHooks},
		{"s2", Options{Compression: S2, Memory: MinMemory}, smallTables},
		{"zstd", Options{Compression: Zstd, Memory: MinMemory}, smallTables},
		{"2-bit hash", Options{Memory: MinMemory}, withHash(smallTables, func(key string) uint64 { return byteHash(key)>>62<<62 | 0x123456789abcdef0 })},
		{"8-bit hash", Options{Memory: MinMemory}, withHash(smallTables, byteHash)},
	} {
		t.Run(c.name, func(t *testing.T) {
			dirs := map[partd.Partd]string{}
			openIn := func(t *testing.T, dir string) partd.Partd {
				s := must.Get(openHooked(dir, &c.opts, c.h))(t)
				dirs[s] = dir
				return s
			}
			run := partdtest.StateMachine
			runAll := os.Getenv("PARTD_ALL_LAYERS") != ""
			if c.h.fs != nil || c.h.maxBatch > 0 || runAll {
				run = partdtest.Run
			}
			newDir := func(*testing.T) string { return fmt.Sprintf("/%d", len(dirs)) }
			opts := &partdtest.Options{
				Require:       abilities,
				InternalNames: []string{"MANIFEST", "LOCK", "wal-0", "seg-00000001", "blob-00000001"},
				Reopen: func(t *testing.T, s partd.Partd) partd.Partd {
					if err := partd.Close(t.Context(), s); err != nil && !errors.Is(err, partd.ErrClosed) {
						t.Fatal(err)
					}
					return openIn(t, dirs[s])
				},
			}
			if c.h.fs != nil {
				newDir = func(t *testing.T) string { return t.TempDir() }
				opts.Dir = func(s partd.Partd) string { return dirs[s] }
				if !runAll {
					opts.MachineRuns, opts.Parts = 20, 16_000 // a disk is slow
				}
			} else {
				c.h.fs = vfstest.NewMem()
				if !runAll {
					opts.MachineRuns, opts.Parts = 50, 2000 // the default store scans more
				}
			}
			run(t, func(t *testing.T) partd.Partd { return openIn(t, newDir(t)) }, opts)
		})
	}
}
