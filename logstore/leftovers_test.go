package logstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestForeignWriteAheadFile checks that the write-ahead file of another store is not mistaken for a torn one.
func TestForeignWriteAheadFile(t *testing.T) {
	mem, _ := killedStore(t, true)
	h := crashHooksOn(mem)
	f, err := mem.OpenFile(walName(crashDir, 1), os.O_RDWR, 0) // the newest file
	must.Do(t, err)
	b := append(walHeader{epoch: 2, firstSeq: 9}.encode(&segment.Format{ID: 99, Seed: 77}), bytes.Repeat([]byte{7}, 1000)...)
	_, err = f.WriteAt(b, 0)
	must.Do(t, errors.Join(err, f.Close()))
	for _, opts := range []*Options{{}, {ReadOnly: true}} {
		if s, err := openHooked(crashDir, opts, h); !errors.As(err, new(*partd.CorruptError)) || !errors.Is(err, errForeign) {
			t.Errorf("open with options %+v = %v, error %v, want a CorruptError that wraps errForeign", opts, s, err)
		}
	}
}

func TestFailedOpenFreesMemory(t *testing.T) {
	mappedPages := func() (pages int) {
		b, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			procs.Skip(t, "the mapped memory cannot be measured: %v", err)
		}
		for _, c := range strings.Fields(string(b))[0] {
			pages = pages*10 + int(c-'0')
		}
		return pages
	}
	mem, _ := killedStore(t, false)
	h := crashHooks
	h.tableBytes = 256 << 20
	h.fs = vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if op == vfstest.OpOpen && strings.Contains(name, "seg-") {
			return syscall.EMFILE
		}
		return nil
	})
	fail := func() {
		must.Fail(t, must.Err(openHooked(crashDir, nil, h)), syscall.EMFILE, "open with a fault")
	}
	fail()
	before := mappedPages()
	for range 4 {
		fail()
	}
	if leaked := (mappedPages() - before) * os.Getpagesize(); leaked > 512<<20 {
		t.Errorf("four failed opens leaked %d MiB of mapped memory, want at most 512", leaked>>20)
	}
}

// TestFalseRecordLength checks that Open does not allocate as much memory as a wrong length in a
// record header claims.
func TestFalseRecordLength(t *testing.T) {
	for name, claim := range map[string]uint32{"wrong checksum": 256 << 20, "checksum of zeros": 1100 << 20} {
		t.Run(name, func(t *testing.T) {
			crc := uint32(1)
			if name == "checksum of zeros" {
				crc = crcOfZeros(int(claim))
			}
			dir, copied := t.TempDir(), t.TempDir()
			s, err := Open(dir, &Options{Memory: MinMemory})
			must.Do(t, err)
			must.Do(t, s.Append(t.Context(), partd.Entry{Key: "a", Value: longValue}))
			w := s.tables.active.wal
			rec := (&recordHeader{seq: s.journal.seq, epoch: w.epoch}).put(make([]byte, recordPrefix), &s.format, w.end)
			binary.LittleEndian.PutUint32(rec[4:], claim)
			binary.LittleEndian.PutUint32(rec[8:], crc)
			binary.LittleEndian.PutUint32(rec, s.format.SaltedCRC(walFileNumber, w.end, rec[4:recordHeaderLen]))
			must.Get(w.f.WriteAt(rec, w.end))(t)
			copyDir(t, dir, copied)
			must.Do(t, os.Truncate(walName(copied, 0), int64(claim)+100<<20))
			must.Do(t, s.Close())
			allocated := procs.Allocated(func() { s, err = Open(copied, &Options{Memory: MinMemory, ReadOnly: true}) })
			if crc == 1 && err != nil || crc != 1 && !errors.Is(err, partd.ErrTooLarge) {
				t.Errorf("Open: error %v, want ErrTooLarge only for a correct checksum", err)
			}
			if err == nil {
				must.Do(t, s.Close())
			}
			if allocated > 64<<20 {
				t.Errorf("Open allocated %d MiB, want at most 64", allocated>>20)
			}
		})
	}
}

func crcOfZeros(n int) (crc uint32) {
	zeros := make([]byte, 1<<20)
	for ; n > 0; n -= len(zeros) {
		crc = crc32.Update(crc, segment.Castagnoli, zeros)
	}
	return crc
}

// TestForeignDataFileIsIgnored checks that foreign files, also those with the names of data files, are neither removed
// nor changed, not even by Drop, and that leftover files of the store are removed.
func TestForeignDataFileIsIgnored(t *testing.T) {
	dir := t.TempDir()
	s := openWith(t, dir, nil, hooks{fs: osFS})
	must.Do(t, s.Close())
	files := map[string]string{
		"seg-00000001": "somebody's own", "blob-00000002": strings.Repeat("somebody's own, and long", 9),
		"seg-00000077": string((&segment.File{Format: &segment.Format{ID: 99, Seed: 99}, Kind: segment.SegmentFile, Number: 77}).EncodeHeader()),
	}
	names := []string{"notes.txt", "seg-1", "seg-00000001.bak", "wal-3", "blob-x0000001", ".hidden", "MANIFEST.old"}
	for _, name := range names {
		files[name] = name
	}
	leftovers := map[string]string{
		"seg-00000003": "", "seg-00000004": string(s.catalog.newFile(segment.SegmentFile, 4).EncodeHeader()),
		"seg-00000005": string(make([]byte, segment.HeaderLen)), "blob-00000006": string(s.catalog.newFile(segment.BlobFile, 6).EncodeHeader()[:10]),
	}
	for _, m := range []map[string]string{files, leftovers} {
		for name, content := range m {
			must.Do(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		}
	}
	s = openWith(t, dir, nil, hooks{fs: osFS})
	for name := range leftovers {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Open did not remove the leftover file %s: Stat returned %v", name, err)
		}
	}
	for _, v := range [][]byte{longValue, make([]byte, 1<<20)} {
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "a", Value: v}))
	}
	must.Do(t, errors.Join(s.Flush(t.Context()), s.Drop(t.Context()), s.Close()))
	for name, content := range files {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != content {
			t.Errorf("the foreign file %s was changed to %d bytes, or removed: %v", name, len(b), err)
		}
	}
}
