package logstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/sessiontab"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestEveryBitAndCut flips bits of every byte of every file, or all bits if PARTD_FAULTS is set, and truncates every
// file to every length. Reads must return correct data or an error. Only the last record of a torn log may be missing,
// and the store must report that.
func TestEveryBitAndCut(t *testing.T) {
	mem, want, withoutLast := smallKilledStore(t)
	names := []string{manifestName, "wal-0", "wal-1", "wal-2", "seg-00000001", "blob-00000002", "seg-00000002", "blob-00000001"}
	damagedFiles, rnd := 0, procs.Rand(t)
	for _, name := range names {
		size := fileSize(mem, crashDir+"/"+name)
		if size == 0 {
			continue
		}
		damagedFiles++
		bitStep, step := vfstest.FaultStep(5), int64(1)
		if testing.Short() || procs.RaceEnabled {
			bitStep, step = 7, 7
		}
		for bit := rnd.Int64N(bitStep); bit < size*8; bit += bitStep {
			checkDamaged(t, mem, want, withoutLast, fmt.Sprintf("%s, bit %d", name, bit), func(m *vfstest.Mem) {
				changeByte(t, m, crashDir+"/"+name, bit/8, func(b byte) byte { return b ^ 1<<(bit%8) })
			})
		}
		for cut := int64(0); cut < size; cut += step {
			checkDamaged(t, mem, want, withoutLast, fmt.Sprintf("%s, cut at %d", name, cut), func(m *vfstest.Mem) {
				f := must.Get(m.OpenFile(crashDir+"/"+name, syscall.O_RDWR, 0))(t)
				must.Do(t, errors.Join(f.Truncate(cut), f.Close()))
			})
		}
		checkDamaged(t, mem, want, withoutLast, name+", missing", func(m *vfstest.Mem) {
			must.Do(t, m.Remove(crashDir+"/"+name))
		})
	}
	if damagedFiles < 4 {
		t.Fatalf("the store has only %d of the files to damage, want at least 4", damagedFiles)
	}
}

func fileSize(m *vfstest.Mem, name string) int64 {
	info, err := m.Info(name)
	if err != nil {
		return 0
	}
	return info.Size
}

func changeByte(t *testing.T, m *vfstest.Mem, name string, off int64, f func(byte) byte) {
	t.Helper()
	file, err := m.OpenFile(name, syscall.O_RDWR, 0)
	must.Do(t, err)
	b := make([]byte, 1)
	_, err = file.ReadAt(b, off)
	b[0] = f(b[0])
	_, err2 := file.WriteAt(b, off)
	must.Do(t, errors.Join(err, err2, file.Close()))
}

// changeChecked replaces bytes of a segment at an offset in its file, and corrects the checksum of their block,
// so that only later checks can detect the change. It returns a function that restores the block.
func changeChecked(t *testing.T, seg *storedSegment, off int64, data ...byte) (restore func()) {
	t.Helper()
	for start := seg.Start; ; {
		head := make([]byte, 12)
		must.Get(seg.file.ReadAt(head, start))(t)
		end := start + int64(len(head)) + int64(binary.LittleEndian.Uint32(head[4:])&(1<<24-1))
		if end <= off {
			start = end
			continue
		}
		block := make([]byte, end-start)
		must.Get(seg.file.ReadAt(block, start))(t)
		changed := bytes.Clone(block)
		copy(changed[off-start:], data)
		binary.LittleEndian.PutUint32(changed, seg.file.SaltedCRC(seg.file.Number, start, changed[4:]))
		must.Get(seg.file.f.WriteAt(changed, start))(t)
		return func() {
			must.Get(seg.file.f.WriteAt(block, start))(t)
		}
	}
}

// smallKilledStore returns a small store after a kill, its content, and its content without the last record.
func smallKilledStore(t *testing.T) (mem *vfstest.Mem, want, withoutLast map[string][]byte) {
	t.Helper()
	live := vfstest.NewMem()
	h := crashHooksOn(live)
	h.blobBytes = 100
	s := openWith(t, crashDir, nil, h)
	want = map[string][]byte{}
	add := func(k string, v []byte) {
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: k, Value: v}))
		want[k] = append(bytes.Clone(want[k]), v...)
	}
	for i := range 4 {
		add(fmt.Sprint("key", i), []byte(strings.Repeat("v", i*3+1)))
	}
	add("large", bytes.Repeat([]byte("0123456789"), 15))
	must.Do(t, s.Flush(t.Context()))
	add("key1", []byte("more"))
	add("late", []byte("value"))
	withoutLast = maps.Clone(want)
	add("last", []byte("value"))
	killed := live.KillClone()
	must.Do(t, s.Close())
	return killed, want, withoutLast
}

func checkDamaged(t *testing.T, start *vfstest.Mem, want, withoutLast map[string][]byte, desc string, damage func(m *vfstest.Mem)) {
	t.Helper()
	mem := start.KillClone()
	damage(mem)
	h := crashHooks
	h.blobBytes = 100
	h.fs = mem
	s, err := openHooked(crashDir, nil, h)
	if err == nil {
		var got map[string][]byte
		torn := s.Recovery().Torn
		if got, err = contents(s); err == nil && !maps.EqualFunc(got, want, bytes.Equal) {
			if !maps.EqualFunc(got, withoutLast, bytes.Equal) || !torn && !strings.Contains(desc, "cut") {
				t.Fatalf("%s: Scan returned wrong content with %d keys and no error, want %d keys", desc, len(got), len(want))
			}
		}
		for k, v := range want {
			got, err := s.Get(t.Context(), k)
			if err == nil && !bytes.Equal(got[0], v) && (k != "last" || len(got[0]) > 0) {
				t.Fatalf("%s: Get of %s returned wrong data without an error", desc, k)
			}
		}
		if e := s.Close(); e != nil {
			err = errors.Join(err, e)
		}
	}
	if err != nil && !errors.As(err, new(*partd.CorruptError)) {
		t.Fatalf("%s: error %v, want a CorruptError", desc, err)
	}
}

// TestMissingBlobFileIsDamage checks that reads of an entry that refers to a missing file report damage.
func TestMissingBlobFileIsDamage(t *testing.T) {
	h := hooks{fs: vfstest.NewMem(), blobBytes: 1000}
	s := openWith(t, "/s", nil, h)
	defer s.Close()
	must.Do(t, errors.Join(s.Append(t.Context(), partd.Entry{Key: "k", Value: make([]byte, 2000)}), s.Flush(t.Context())))
	files := s.catalog.files.list.Load()
	without := slices.DeleteFunc(slices.Clone(*files), func(f *dataFile) bool { return f.Kind == segment.BlobFile })
	s.catalog.files.list.Store(&without)
	defer s.catalog.files.list.Store(files)
	for name, read := range map[string]func() error{
		"Scan": func() error {
			_, err := collectParts(s.Scan(t.Context()))
			return err
		},
		"Get": func() error {
			_, err := s.Get(t.Context(), "k")
			return err
		},
		"Verify": func() error {
			_, err := s.verify(t.Context())
			return err
		},
	} {
		if err := read(); !errors.As(err, new(*partd.CorruptError)) {
			t.Errorf("%s: error %v, want a CorruptError", name, err)
		}
	}
}

// TestSwappedLargeValues swaps two large values with their checksums. Reads must report damage, and not
// return the other key's value.
func TestSwappedLargeValues(t *testing.T) {
	s := openWith(t, "/s", nil, hooks{fs: vfstest.NewMem(), blobBytes: 1000})
	defer s.Close()
	const length, stored = 2000, 2000 + 4
	for _, v := range []string{"a", "b"} {
		mustAppend(t, s, v, strings.Repeat(v, length))
	}
	f := s.blobs.file
	b := make([]byte, 2*stored)
	must.Get(f.ReadAt(b, segment.HeaderLen))(t)
	if !bytes.HasPrefix(b, []byte("aaa")) || !bytes.HasPrefix(b[stored:], []byte("bbb")) {
		t.Fatal("the blob file does not begin with the two values, so the test would prove nothing")
	}
	must.Get(f.f.WriteAt(slices.Concat(b[stored:], b[:stored]), segment.HeaderLen))(t)
	if v, err := s.Get(t.Context(), "a"); !errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("Get(a) = %.10q, %v, want a CorruptError", v, err)
	}
}

// TestDamageBeforeSyncedRecord damages a record that was synced before the next record was written.
// Open must report the damage, and not mistake it for the torn end of the log.
func TestDamageBeforeSyncedRecord(t *testing.T) {
	mem := vfstest.NewMem()
	h := crashHooksOn(mem)
	opts := &Options{Sync: true}
	s, err := openHooked(crashDir, opts, h)
	must.Do(t, err)
	mustAppend(t, s, "a", "1")
	mustAppend(t, s, "b", "2")
	damagedWAL, damaged := s.tables.active.wal.path, mem.KillClone()
	must.Do(t, s.Close())
	changeByte(t, damaged, damagedWAL, walHeaderLen+recordHeaderLen, func(b byte) byte { return ^b })
	h.fs = damaged
	if s, err = openHooked(crashDir, opts, h); err == nil {
		_ = s.Close()
	}
	if !errors.As(err, new(*partd.CorruptError)) {
		t.Errorf("open with a damaged record that was synced: error %v, want a CorruptError", err)
	}
}

// FuzzManifest checks that parseManifest does not panic, and accepts only encodings of the right length.
func FuzzManifest(f *testing.F) {
	m := manifest{id: 1, seed: 2, liveEpoch: 3, nextSeq: 4, lastFileNumber: 2, files: []fileRef{{segment.SegmentFile, 1, 100}, {segment.BlobFile, 2, 32}}}
	m.sessions = newSessionTable(5)
	m.sessions.put(5, sessiontab.Operation{Number: 6, CRC: 7})
	f.Add(m.encode())
	f.Add([]byte(manifestMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err == nil && len(m.encode()) != len(b) {
			t.Fatalf("parseManifest accepted %d bytes, but the manifest is encoded in %d", len(b), len(m.encode()))
		}
		// Decode sessions directly, because the fuzzer cannot guess the manifest's checksum.
		if len(b) > 12 {
			_, _ = parseSessions(b)
		}
	})
}

// TestOtherFormatVersions checks that Open refuses a file with an older or newer format version. The
// error must name the file, its version and the supported version.
func TestOtherFormatVersions(t *testing.T) {
	start, _, _ := smallKilledStore(t)
	for name, supported := range map[string]byte{
		manifestName: manifestVersion, "seg-00000002": segment.FormatVersion, "blob-00000001": segment.FormatVersion, "wal-1": segment.FormatVersion,
	} {
		for _, version := range []byte{supported - 1, supported + 1} {
			mem := start.KillClone()
			h := crashHooksOn(mem)
			changeByte(t, mem, crashDir+"/"+name, 8, func(b byte) byte {
				if b != supported {
					t.Errorf("%s has version %d, want %d", name, b, supported)
				}
				return version
			})
			for _, opts := range []*Options{{}, {ReadOnly: true}} {
				s, err := openHooked(crashDir, opts, h)
				if err == nil {
					must.Do(t, s.Close())
				}
				var corrupt *partd.CorruptError
				want := fmt.Sprintf("format version %d, but this program supports only version %d", version, supported)
				if !errors.As(err, &corrupt) || !strings.HasSuffix(corrupt.Path, name) || !strings.Contains(err.Error(), want) {
					t.Errorf("open with %s of version %d: error %v, want a CorruptError for the file with %q", name, version, err, want)
				}
			}
		}
	}
}
