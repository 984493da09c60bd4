package logstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// lateErrorFS is a file system. If fail is set, the next write to a write-ahead file stores the data, but fails.
type lateErrorFS struct {
	vfs.FS
	fail *atomic.Bool
}

func (f lateErrorFS) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.Contains(name, "wal-") {
		return file, err
	}
	return lateErrorFile{file, f.fail}, nil
}

type lateErrorFile struct {
	vfs.File
	fail *atomic.Bool
}

func (f lateErrorFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	if err == nil && f.fail.Swap(false) {
		return 0, syscall.EIO
	}
	return n, err
}

// TestOperationLostAfterSeal applies an operation while an older table is being sealed. If a power
// failure then loses the operation's record, a retry must be applied.
func TestOperationLostAfterSeal(t *testing.T) {
	ctx := t.Context()
	mem := vfstest.NewMem()
	blocked, proceed := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	h := crashHooksOn(vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if op == vfstest.OpWrite && strings.Contains(name, "seg-") && armed.CompareAndSwap(true, false) {
			close(blocked)
			<-proceed
		}
		return nil
	}))
	s := openWith(t, crashDir, nil, h)
	session := newSession(t, s)
	mustAppend(t, s, "a", "1")
	must.Do(t, s.Sync(ctx))
	armed.Store(true)
	flushed := make(chan error, 1)
	go func() { flushed <- s.Flush(ctx) }()
	<-blocked
	tag := partd.Tag{Session: session, Number: 1}
	op := partd.Operation{Entries: []partd.Entry{{Key: "b", Value: []byte("2")}}}
	if applied, err := s.Apply(ctx, tag, op); err != nil || !applied {
		t.Fatalf("Apply = %v, %v, want true", applied, err)
	}
	close(proceed)
	must.Do(t, <-flushed)
	h.fs = mem.Crash(nil)
	must.Do(t, s.Close())
	s = openWith(t, crashDir, nil, h)
	wantValue(t, s, "b", "")
	if applied, err := s.Apply(ctx, tag, op); err != nil || !applied {
		t.Errorf("retry of an operation that a power failure has lost = %v, %v, want true", applied, err)
	}
	must.Do(t, s.Close())
}

// TestMissingSegmentIsDamage removes a segment file from the manifest. Open must report the damage.
func TestMissingSegmentIsDamage(t *testing.T) {
	mem := vfstest.NewMem()
	h := crashHooksOn(mem)
	s, err := openHooked(crashDir, nil, h)
	must.Do(t, err)
	mustAppend(t, s, "a", "1")
	must.Do(t, s.Flush(t.Context()))
	must.Do(t, s.catalog.edit(func(m *manifest) { m.files = nil }))
	h.fs = mem.KillClone()
	must.Do(t, s.Close())
	if s, err = openHooked(crashDir, nil, h); !errors.As(err, new(*partd.CorruptError)) {
		t.Fatalf("open without a segment: error %v, want a CorruptError", err)
	}
	if s != nil {
		t.Error("open returned a store and an error")
	}
}

// TestErasedRecordStaysErased writes a record completely, but the write reports an error. Neither a kill nor, with Sync,
// a power failure may bring the record back.
func TestErasedRecordStaysErased(t *testing.T) {
	for _, sync := range []bool{false, true} {
		mem := vfstest.NewMem()
		var fail atomic.Bool
		s := openWith(t, crashDir, &Options{Sync: sync}, crashHooksOn(lateErrorFS{mem, &fail}))
		mustAppend(t, s, "a", "1")
		fail.Store(true)
		err := s.Append(t.Context(), partd.Entry{Key: "b", Value: []byte("2")})
		if err == nil || errors.Is(err, partd.ErrUnknownOutcome) {
			t.Fatalf("Append whose write fails: error %v, want one that does not wrap ErrUnknownOutcome", err)
		}
		want := map[string][]byte{"a": []byte("1")}
		wantContent(t, mem.KillClone(), want)
		for seed := uint64(0); sync && seed < 50; seed++ {
			wantContent(t, mem.Crash(rand.New(rand.NewPCG(seed, 1))), want)
		}
		must.Do(t, s.Close())
	}
}

// TestRemovedFileIsDetected checks that Open rejects a store without one of its files, and names the file.
func TestRemovedFileIsDetected(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		start, want := killedStore(t, frozen)
		d := must.Get(start.ReadDir(crashDir))(t)
		names, _ := d.Next(100)
		must.Do(t, d.Close())
		removed := 0
		for _, n := range names {
			name := n.Name()
			if name == lockName || name == spareName {
				continue
			}
			mem := start.KillClone()
			must.Do(t, mem.Remove(crashDir+"/"+name))
			for _, readOnly := range []bool{true, false} {
				s, err := openHooked(crashDir, &Options{Memory: MinMemory, ReadOnly: readOnly}, crashHooksOn(mem))
				if err == nil {
					_ = s.Close()
				}
				if name == manifestName && readOnly {
					continue // without a manifest, there is no store to read
				}
				var corrupt *partd.CorruptError
				if !errors.As(err, &corrupt) || !strings.HasSuffix(corrupt.Path, name) {
					t.Fatalf("frozen %t, without %s, read-only %t: error %v, want a CorruptError for the file", frozen, name, readOnly, err)
				}
			}
			removed++
		}
		if removed < 2 || frozen && removed < 3 {
			t.Errorf("frozen %t: the store has only %d files to remove, want at least 2, or 3 if frozen", frozen, removed)
		}
		wantContent(t, start, want)
	}
}

// TestNewestFileWithoutHeader checks that a newest write-ahead file without a header is ignored, because
// a power failure may leave one. An empty file must be reported.
func TestNewestFileWithoutHeader(t *testing.T) {
	start, _ := killedStore(t, true)
	for _, size := range []int64{0, crashHooks.walStep} {
		mem := start.KillClone()
		var newest string
		var last uint64
		h := crashHooksOn(mem)
		s := openWith(t, crashDir, &Options{Memory: MinMemory, ReadOnly: true}, h)
		for i, f := range s.wal.files {
			if f == nil {
				continue
			}
			if w, err := s.wal.readHeader(f); err == nil && w.epoch > last {
				newest, last = walName(crashDir, i), w.epoch
			}
		}
		must.Do(t, s.Close())
		f, err := mem.OpenFile(newest, 2, 0)
		must.Do(t, err)
		must.Do(t, errors.Join(f.Truncate(0), f.Truncate(size), f.Close()))
		s, err = openHooked(crashDir, nil, h)
		if size == 0 {
			var corrupt *partd.CorruptError
			if !errors.As(err, &corrupt) || corrupt.Path != newest {
				t.Fatalf("open with an empty newest file: error %v, want a CorruptError for %s", err, newest)
			}
			continue
		}
		if err != nil {
			t.Fatalf("open with a newest file of %d zeros: %v", size, err)
		}
		must.Do(t, s.Close())
	}
}

// FuzzRecordHeader checks that the decoders of write-ahead files do not panic or read beyond their
// input, and accept only encodings that the store writes.
func FuzzRecordHeader(f *testing.F) {
	b := &batch{}
	b.reset()
	b.add(segment.KindAppend, "key", []byte("value"), 1, 4)
	b.checksum()
	h := recordHeader{crc: b.crc, epoch: 3, seq: 9, synced: 8}
	f.Add(bytes.Clone(h.put(b.buf, &segment.Format{Seed: 5}, 64)), uint64(5), int64(64))
	h.tagged, h.tag = true, partd.Tag{Session: 1, Number: 2, CRC: 3}
	f.Add(bytes.Clone(h.put(b.buf, &segment.Format{Seed: 5}, 64)), uint64(5), int64(64))
	f.Add(walHeader{1, 1}.encode(&segment.Format{ID: 7, Seed: 5}), uint64(5), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, off int64) {
		store := &segment.Format{ID: 7, Seed: seed}
		h, err := parseRecordHeader(b, store, off)
		if err == nil {
			// A header with a correct checksum must be what put writes.
			c := make([]byte, recordPrefix+int(min(h.length, 1<<10)))
			if h.length < 1<<10 {
				if got := h.put(c, store, off); !bytes.Equal(got[:h.totalLen-int64(h.length)], b[:h.totalLen-int64(h.length)]) {
					t.Fatalf("the header % x was accepted, but is encoded as % x", b, got)
				}
			}
		}
		for _, n := range []int{recordHeaderLen, recordHeaderLen + tagLen} { // correct the checksum, because the fuzzer cannot guess it
			if c := bytes.Clone(b); len(c) >= n {
				binary.LittleEndian.PutUint32(c, store.SaltedCRC(walFileNumber, off, c[4:n]))
				_, _ = parseRecordHeader(c, store, off)
			}
		}
		if h, err := parseWALHeader(b, store); err == nil && !bytes.Equal(h.encode(store)[:8], b[:8]) {
			t.Fatal("parseWALHeader accepted bytes that the store would not write")
		}
	})
}

// TestRecordLimit checks that records stay far below the 4 GiB that their 32-bit lengths can count, whatever the
// store's memory is. Larger changes are written to segments.
func TestRecordLimit(t *testing.T) {
	for memory, want := range map[int64]int{1 << 42: 1 << 30, 1 << 30: 1 << 25} {
		if s := newStore("", Options{Memory: memory}, hooks{}); s.maxBatch != want {
			t.Errorf("with %d bytes of memory, a record has at most %d bytes, want %d", memory, s.maxBatch, want)
		}
	}
}
