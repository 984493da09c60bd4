package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
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

// freeOnRemove returns a file system that has free space again after the removal of a write-ahead
// file. If fails is set, the removal fails, and the file remains.
func freeOnRemove(fs vfs.FS, full *atomic.Bool, fails bool) vfs.FS {
	return vfstest.Inject(fs, func(op vfstest.Op, name string) error {
		if op == vfstest.OpRemove && strings.Contains(name, "wal-") {
			if full.Store(false); fails {
				return syscall.EBUSY
			}
		}
		return nil
	})
}

// fullDisk is a store on a disk that becomes full, and has space again, at random moments.
type fullDisk struct {
	*testing.T
	rnd                *rand.Rand
	mem                *vfstest.Mem
	opts               *Options
	full, segmentsFull atomic.Bool // the disk rejects all writes, or those to segments
	hasReserve         bool        // the blocks of the spare file can be overwritten
	removal            int         // removing a write-ahead file 0: frees no space; 1: frees enough; 2: does, but fails

	s          *Store
	isReadOnly bool // the store was opened while the disk was full, and not dropped since
	want       map[string][]byte
	tag        partd.Tag // of the last operation in the session
	reader     io.ReadCloser
	readerWant []byte
}

// hasSpace reports whether a change must succeed.
func (d *fullDisk) hasSpace() bool { return !d.full.Load() && !d.segmentsFull.Load() && !d.isReadOnly }

func (d *fullDisk) open() {
	fs := vfstest.Inject(diskFull(d.mem, &d.full, d.hasReserve), failSegmentWrites(&d.segmentsFull))
	if d.removal > 0 {
		fs = freeOnRemove(fs, &d.full, d.removal == 2)
	}
	hadSpace := d.hasSpace()
	s, err := openHooked(crashDir, d.opts, crashHooksOn(fs))
	if d.want == nil && !hadSpace {
		mustBeFull(d.T, "opening a new store", err)
		d.full.Store(false)
		s, err = openHooked(crashDir, d.opts, crashHooksOn(fs))
	}
	must.Do(d, err)
	d.s, d.isReadOnly = s, s.noWALError() != nil
	if d.isReadOnly && hadSpace {
		d.Fatal("a store was opened only for reading, although the disk has space")
	}
	if d.want == nil {
		d.want, d.tag.Session = map[string][]byte{}, newSession(d.T, s)
	}
}

// closeStore closes the store, or kills its process.
func (d *fullDisk) closeStore() {
	d.read()
	isKilled := d.rnd.IntN(2) == 0
	if isKilled {
		d.mem = d.mem.KillClone()
	}
	if err := d.s.Close(); err != nil && !isKilled && !d.full.Load() && !d.segmentsFull.Load() && d.removal != 2 {
		d.Fatalf("Close: %v", err)
	}
	d.isReadOnly = false
	d.open()
}

// read checks the value that a reader returns, whatever happened since it was opened.
func (d *fullDisk) read() {
	if d.reader == nil {
		return
	}
	b, err := io.ReadAll(d.reader)
	if err = errors.Join(err, d.reader.Close()); err != nil || !bytes.Equal(b, d.readerWant) {
		d.Fatalf("a reader returned %d bytes (error %v), want the old %d", len(b), err, len(d.readerWant))
	}
	d.reader = nil
}

// change calls do, which makes a change. If it succeeds, apply changes the expected content.
func (d *fullDisk) change(desc string, do func() error, apply func()) {
	hadSpace := d.hasSpace()
	err := do()
	if err == nil {
		apply()
	} else if mustBeFull(d.T, desc, err); hadSpace || d.isReadOnly && !strings.Contains(err.Error(), "full") {
		d.Fatalf("%s: error %v, although the disk has space, or without a message about the full disk", desc, err)
	}
}

func (d *fullDisk) apply(op partd.Operation, tag partd.Tag) func() error {
	return func() error {
		applied, err := d.s.Apply(d.Context(), tag, op)
		if err == nil && applied != (tag.Number > d.tag.Number) {
			d.Fatalf("Apply(%+v) = %v after number %d", tag, applied, d.tag.Number)
		}
		return err
	}
}

// drop drops the store. Drop must succeed if the disk has space or the spare file has some. It restores the file.
func (d *fullDisk) drop(do func() error, apply func()) {
	_, err := d.mem.Info(crashDir + "/" + spareName)
	mustSucceed := !d.full.Load() || d.hasReserve && err == nil
	if err := do(); err != nil {
		if mustBeFull(d.T, "Drop", err); mustSucceed {
			d.Fatalf("Drop: error %v, although there is space for it", err)
		}
		return
	}
	apply()
	clear(d.want)
	d.isReadOnly = false
	if _, err := d.mem.Info(crashDir + "/" + spareName); err != nil && !d.full.Load() {
		d.Fatalf("Drop did not restore the spare file: %v", err)
	}
}

func (d *fullDisk) step() {
	ctx, key := d.Context(), fmt.Sprint("k", d.rnd.IntN(3))
	value := bytes.Repeat(fmt.Append(nil, d.rnd.IntN(10)), []int{1, 300, 300, 3000}[d.rnd.IntN(4)])
	add := func() { d.want[key] = append(bytes.Clone(d.want[key]), value...) }
	next := d.tag
	next.Number++
	accept := func() { d.tag = next }
	switch d.rnd.IntN(16) {
	default:
		d.change("Append", func() error { return d.s.Append(ctx, partd.Entry{Key: key, Value: value}) }, add)
	case 0:
		d.change("Set", func() error { return d.s.Set(ctx, key, value) }, func() { d.want[key] = value })
	case 1:
		d.change("Delete", func() error { return d.s.Delete(ctx, key) }, func() { delete(d.want, key) })
	case 2:
		op := partd.Operation{Change: partd.ChangeAppend, Entries: []partd.Entry{{Key: key, Value: value}}}
		d.change("Apply", d.apply(op, next), func() { accept(); add() })
		if d.tag.Number > 0 {
			d.change("Apply again", d.apply(op, d.tag), func() {})
		}
	case 3:
		if d.s.noWALError() == nil { // otherwise only Drop and changes that need space try to resume
			d.change("Flush", func() error { return d.s.Flush(ctx) }, func() {})
		}
	case 4:
		d.change("NewSession", func() error { _, err := d.s.NewSession(ctx); return err }, func() {})
	case 5, 6:
		d.full.Store(d.rnd.IntN(2) == 0)
		d.segmentsFull.Store(d.rnd.IntN(3) == 0)
	case 7:
		d.closeStore()
	case 8:
		d.read()
		r := must.Get(d.s.Open(ctx, key))(d)
		if d.rnd.IntN(2) == 0 {
			d.reader, d.readerWant = r, bytes.Clone(d.want[key])
		} else {
			must.Do(d, r.Close())
		}
	case 9:
		d.drop(func() error { return d.s.Drop(ctx) }, func() {})
	case 10:
		d.drop(d.apply(partd.Operation{Change: partd.ChangeDrop}, next), accept)
	}
	wantContents(d.T, d.s, d.want)
}

// TestFullDisk checks that a store on a full disk can be opened, read and dropped, that other changes fail without
// effect, and that the store accepts changes when there is space.
func TestFullDisk(t *testing.T) {
	for seed := range uint64(150) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		d := &fullDisk{T: t, rnd: rnd, mem: vfstest.NewMem(), opts: &Options{Memory: MinMemory, Sync: rnd.IntN(2) == 0}, hasReserve: rnd.IntN(4) > 0, removal: rnd.IntN(3)}
		d.full.Store(rnd.IntN(4) == 0)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			d.T = t
			for d.open(); rnd.IntN(80) > 0; {
				d.step()
			}
			d.read()
			d.full.Store(false)
			d.segmentsFull.Store(false)
			_ = d.s.Close()
			wantContent(t, d.mem, d.want)
			if n := d.mem.OpenCount(); n > 0 {
				t.Errorf("%d files are still open after Close", n)
			}
		})
	}
}

// TestFullDiskCopyOnOpen checks that no data is lost if the disk is too full to open a data file
// for writing. Some file systems copy a file when it is opened for writing.
func TestFullDiskCopyOnOpen(t *testing.T) {
	mem := vfstest.NewMem()
	h := crashHooksOn(mem)
	s := openWith(t, crashDir, nil, h)
	for range 30 {
		mustAppend(t, s, "k", strings.Repeat("v", 3000)) // creates segments and blobs
	}
	must.Do(t, s.Close())
	h.fs = copyOnOpen{mem}
	s = openWith(t, crashDir, nil, h)
	wantValue(t, s, "k", strings.Repeat("v", 90_000))
	if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Append: error %v, want ENOSPC", err)
	}
	must.Do(t, s.Close())
	wantContent(t, mem, map[string][]byte{"k": bytes.Repeat([]byte("v"), 90_000)})
}

// copyOnOpen is a full disk that copies data files when they are opened for writing.
type copyOnOpen struct{ vfs.FS }

func (c copyOnOpen) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	if flag&os.O_RDWR != 0 && (strings.Contains(name, "seg-") || strings.Contains(name, "blob-")) {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	}
	return c.FS.OpenFile(name, flag, perm)
}
