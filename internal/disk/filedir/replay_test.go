package filedir_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// fileMakeTorn simulates a process that dies while it appends the text added to the key "torn". It
// returns the directory, which has the undo record, and the path of the key's file, which consists
// of old and tail. boot is the machine's boot ID at that time: opening the store with another boot
// ID simulates a power failure after the process died.
func fileMakeTorn(t *testing.T, opts *partd.FileOptions, boot uint64, old, added string, tail []byte) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	hooks := filedir.Hooks{KeepLock: -1, Boot: boot}
	f := fileOpen(t, fileOS, dir, opts, hooks)
	if old != "" {
		fileAppend(t, f, "torn", old, "other", "kept")
	} else {
		fileAppend(t, f, "other", "kept")
	}
	var journal []byte
	f.Hooks.AfterWrite = func() { // now the record is valid
		if journal == nil {
			journal = fileRead(t, filepath.Join(dir, names.Journal))
		}
	}
	fileAppend(t, f, "torn", added)
	must.Do(t, f.Close())
	path = filepath.Join(dir, "torn")
	fileWrite(t, filepath.Join(dir, names.Journal), journal)
	fileWrite(t, path, append([]byte(old), tail...))
	return dir, path
}

// fileBytes returns a text of n bytes without repetitions.
func fileBytes(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.String()[:n]
}

// fileLengths lists lengths of old values and appends, around the limits of undo records.
var fileLengths = []struct{ old, added int }{
	{0, 1}, {0, 100}, {10, 100}, {4090, 20}, {0, 4096}, {1, 4096}, {1, 4097}, {4095, 4098}, {100, 20_000}, {8192, 8192}, {5000, 300_000},
}

// TestFileReplayAfterPowerLoss checks the removal of an interrupted append after a power failure. With Sync, everything
// after the old value is removed. Without Sync, bytes of the append and zeros are removed.
func TestFileReplayAfterPowerLoss(t *testing.T) {
	old, added := fileBytes(5000), "+"+fileBytes(19_999)
	withZeros := func(s string, begin, end int) []byte {
		p := []byte(s)
		clear(p[begin:end])
		return p
	}
	for name, c := range map[string]struct {
		sync bool
		tail []byte
	}{
		"sync, one page is zero":     {true, withZeros(added, 4096, 8192)},
		"sync, truncated":            {true, []byte(added[:12_345])},
		"sync, all zero":             {true, withZeros(added, 0, len(added))},
		"all zero":                   {false, withZeros(added, 0, len(added))},
		"zero at the end":            {false, withZeros(added, 3192+4096, len(added))},
		"zero at the end, truncated": {false, withZeros(added, 3192+4096, 15_000)[:15_000]},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := fileMakeTorn(t, &partd.FileOptions{Sync: c.sync}, 1, old, added, c.tail)
			f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{Boot: 2})
			fileWantContent(t, f, map[string]string{"torn": old, "other": "kept"})
		})
	}
}

// TestFileReplayKeepsForeignBytes checks that an interrupted append is removed, no matter how much of it was written, and
// that this keeps bytes that a Python process appended after it.
func TestFileReplayKeepsForeignBytes(t *testing.T) {
	for _, l := range fileLengths {
		old, added := fileBytes(l.old), "+"+fileBytes(l.added)[:l.added-1]
		// A long append can be torn only within its first piece, or at the end of a piece.
		isTorn := func(n int) bool {
			return l.added <= inlineMax || n == l.added || (l.old+n)%pieceSize == 0 || n <= pieceSize-l.old%pieceSize
		}
		for _, foreign := range []string{"", "F", "Foreign", strings.Repeat("Foreign", 5000)} {
			lengths := []int{0, 4096 - l.old%4096, 8192 - l.old%4096, l.added}
			if foreign == "" {
				lengths = append(lengths, 1, 7, 50, l.added/2, l.added-1, 512-l.old%512)
			}
			for _, n := range lengths {
				if n < 0 || n > l.added || foreign != "" && n > 0 && n < minProof || !isTorn(n) {
					continue
				}
				t.Run(fmt.Sprintf("old=%d,added=%d,written=%d,foreign=%d", l.old, l.added, n, len(foreign)), func(t *testing.T) {
					dir, _ := fileMakeTorn(t, nil, 1, old, added, []byte(added[:n]+foreign))
					f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{Boot: 1})
					want := fileTornContent(old + foreign)
					fileWantContent(t, f, want)
					fileAppend(t, f, "torn", "next")
					want["torn"] += "next"
					fileWantContent(t, f, want)
				})
			}
		}
	}
}

// TestFileReplayMismatch checks that bytes of unknown origin are kept, and that the error gives their position and a
// remedy.
func TestFileReplayMismatch(t *testing.T) {
	for _, l := range fileLengths {
		if l.added < 100 {
			continue
		}
		old, added := fileBytes(l.old), "+"+fileBytes(l.added)[:l.added-1]
		for _, tail := range []string{"?", added[:50] + "?", added[:l.added-1] + "?", added[:90] + "?" + added[91:] + "more"} {
			t.Run(fmt.Sprintf("old=%d,added=%d,tail=%d", l.old, l.added, len(tail)), func(t *testing.T) {
				dir, path := fileMakeTorn(t, nil, 1, old, added, []byte(tail))
				journal := fileRead(t, filepath.Join(dir, names.Journal))
				_, err := storetest.OpenDir(fileOS, dir, nil, filedir.Hooks{Boot: 2})
				var corrupt *partd.CorruptError
				if !errors.As(err, &corrupt) || corrupt.Path != path || corrupt.Offset < int64(l.old) || corrupt.Offset > int64(l.old+l.added) {
					t.Fatalf("OpenFile: error %v, want a partd.CorruptError with the position in %s", err, path)
				}
				fileWantInErr(t, err, path, "truncate", names.Journal)
				if got := string(fileRead(t, path)); got != old+tail {
					t.Fatalf("OpenFile changed the file from %d to %d bytes, or changed its content", len(old)+len(tail), len(got))
				}
				if !bytes.Equal(fileRead(t, filepath.Join(dir, names.Journal)), journal) {
					t.Fatal("OpenFile changed the undo record")
				}
				// Follow the error's advice.
				must.Do(t, os.Truncate(path, int64(l.old)))
				fileWantContent(t, fileOpen(t, fileOS, dir, nil, filedir.Hooks{Boot: 2}), fileTornContent(old))
			})
		}
	}
}

func fileTornContent(old string) map[string]string {
	want := map[string]string{"other": "kept"}
	if old != "" {
		want["torn"] = old
	}
	return want
}

// TestFileReplayTornRecord checks that an incomplete undo record is ignored, because its operation has not changed any
// file.
func TestFileReplayTornRecord(t *testing.T) {
	dir, path := fileMakeTorn(t, nil, 1, "old", "added", []byte("added"))
	journal := filepath.Join(dir, names.Journal)
	complete := fileRead(t, journal)
	used := bytes.LastIndex(complete, []byte("added")) + len("added")
	for n := range used {
		for _, damage := range []string{"cut", "zeros", "flip"} {
			record := bytes.Clone(complete)
			switch damage {
			case "cut":
				record = record[:n]
			case "zeros": // the file already has its length, but not yet all bytes
				clear(record[n:])
			case "flip":
				if record[n] ^= 0x10; n == 8 || n == 9 { // another version, tested below
					continue
				}
			}
			fileWrite(t, journal, record)
			f, err := storetest.OpenDir(fileOS, dir, nil, filedir.Hooks{Boot: 1})
			if err != nil {
				t.Fatalf("undo record with %s at byte %d: OpenFile: %v", damage, n, err)
			}
			got := must.Get(fileContent(f))(t)
			if n >= 36 && n < 40 && damage == "flip" { // these bytes have no meaning, so the record is valid
				fileWrite(t, path, []byte("oldadded"))
			} else if got["torn"] != "oldadded" {
				t.Fatalf("undo record with %s at byte %d: the invalid record was replayed: torn = %q", damage, n, got["torn"])
			}
			f.Close()
		}
	}
	for _, version := range []byte{1, 3} {
		other := bytes.Clone(complete)
		other[8] = version
		fileWrite(t, journal, other)
		_, err := storetest.OpenDir(fileOS, dir, nil, filedir.Hooks{})
		fileWantInErr(t, err, fmt.Sprint("version ", version), names.Journal)
	}
}

// TestFileJournalRemoved checks that an append records how to undo it in a new journal if another process has removed the
// old one, as Python's drop does.
func TestFileJournalRemoved(t *testing.T) {
	mem := vfstest.NewMem()
	f := fileOpen(t, mem, fileMemDir, nil, fileNoKeptLock)
	fileAppend(t, f, "a", "1")
	journal := fileMemDir + "/" + names.Journal
	must.Do(t, mem.Remove(journal))
	checked := false
	f.Hooks.AfterWrite = func() {
		if info := must.Get(mem.Info(journal))(t); info.Size == 0 {
			t.Error("the append wrote data while the journal was empty")
		}
		checked = true
	}
	fileAppend(t, f, "a", "2")
	if !checked {
		t.Error("the append wrote no data")
	}
}

// TestFileReplayByReader checks that a reader undoes an interrupted operation before it reads.
func TestFileReplayByReader(t *testing.T) {
	dir := t.TempDir()
	writer := fileOpen(t, fileOS, dir, nil, fileNoKeptLock)
	reader := fileOpen(t, fileOS, dir, nil, fileNoKeptLock)
	fileAppend(t, writer, "a", "1", "b", "1")
	var journal []byte
	writer.Hooks.AfterWrite = func() {
		if journal == nil {
			journal = fileRead(t, filepath.Join(dir, names.Journal))
		}
	}
	fileAppend(t, writer, "a", "2", "b", "2", "c", "2")
	read := map[string]func() (string, error){
		"Get": func() (string, error) {
			v, err := reader.Get(t.Context(), "a", "b", "c")
			return string(bytes.Join(v, []byte(","))), err
		},
		"Open": func() (string, error) {
			r, err := reader.Open(t.Context(), "a")
			if err != nil {
				return "", err
			}
			defer r.Close()
			p, err := io.ReadAll(r)
			return string(p) + ",1,", err
		},
		"Scan": func() (string, error) {
			m, err := fileContent(reader)
			return m["a"] + "," + m["b"] + "," + m["c"], err
		},
	}
	for name, f := range read {
		fileWrite(t, filepath.Join(dir, "a"), []byte("12"))
		fileWrite(t, filepath.Join(dir, "b"), []byte("1"))
		fileWrite(t, filepath.Join(dir, "c"), []byte("2"))
		fileWrite(t, filepath.Join(dir, names.Journal), journal)
		if got, err := f(); err != nil || got != "1,1," {
			t.Fatalf("%s after an interrupted append: %q, %v, want %q", name, got, err, "1,1,")
		}
		if _, err := os.Stat(filepath.Join(dir, "c")); err == nil {
			t.Fatalf("%s did not remove the file that the interrupted append created", name)
		}
	}
}

// TestFileReplayKeepsFewMatchingBytes checks that a file is left unchanged if so few of its bytes match an interrupted
// append that another process may have written them.
func TestFileReplayKeepsFewMatchingBytes(t *testing.T) {
	old, added := fileBytes(4090), "+"+fileBytes(99)
	tail := added[:6] + "Foreign" // six bytes of the append, which end at the end of a page
	dir, path := fileMakeTorn(t, nil, 1, old, added, []byte(tail))
	_, err := storetest.OpenDir(fileOS, dir, nil, filedir.Hooks{Boot: 1})
	if !errors.As(err, new(*partd.CorruptError)) {
		t.Fatalf("OpenFile: error %v, want a CorruptError", err)
	}
	if got := string(fileRead(t, path)); got != old+tail {
		t.Fatalf("OpenFile changed the file from %d to %d bytes, or changed its content", len(old)+len(tail), len(got))
	}
}

// fileForeignAppend appends to a file without the store, as a Python process does. It returns the file's length before,
// or -1 if the file does not exist.
func fileForeignAppend(t *testing.T, mem *vfstest.Mem, key, value string) int64 {
	t.Helper()
	file, err := mem.OpenFile(fileMemDir+"/"+key, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return -1
	}
	must.Do(t, err)
	info, err := file.Info()
	if err == nil {
		_, err = file.WriteAt([]byte(value), info.Size)
	}
	must.Do(t, errors.Join(err, file.Close()))
	return info.Size
}

// TestFileReplayKeepsChangedFile kills a process while it deletes a key, and appends to the key before recovery. The
// key must survive.
func TestFileReplayKeepsChangedFile(t *testing.T) {
	fileCutAt(t, fileFilled(t, nil), nil, func(ctx context.Context, f *storetest.Dir) error {
		return f.Delete(ctx, fileLong, "a")
	}, func(mem *vfstest.Mem, n int) {
		if fileForeignAppend(t, mem, "a", "foreign") < 0 {
			return
		}
		f := fileOpen(t, mem, fileMemDir, nil, fileNoKeptLock)
		got, err := f.Get(t.Context(), "a")
		if err != nil || string(got[0]) != "1foreign" {
			t.Fatalf("killed before call %d: Get = %q, %v, want 1foreign", n, got, err)
		}
		f.Close()
	})
}

// TestFileReplayKeepsEqualBytes appends the bytes of an interrupted append again, as another process would, before or
// after recovery removes the interrupted append. Recovery must keep the new bytes, even if it is killed and repeated.
func TestFileReplayKeepsEqualBytes(t *testing.T) {
	for key, old := range map[string]string{"a": "1", "ab": ""} { // ab is a new key
		fileKeepsEqualBytes(t, key, old)
	}
}

func fileKeepsEqualBytes(t *testing.T, key, old string) {
	const added = "twenty-six bytes to append"
	fileCutAt(t, fileFilled(t, nil), nil, func(ctx context.Context, f *storetest.Dir) error {
		return f.Append(ctx, fileEntries(key, added, "c", added)...)
	}, func(cut *vfstest.Mem, n int) {
		info := must.Get(cut.Info(fileMemDir + "/c"))(t)
		recovered := fileOpen(t, cut.KillClone(), fileMemDir, nil, fileNoKeptLock)
		if v, err := recovered.Get(t.Context(), key); err != nil || string(v[0]) != old || info.Size == int64(len(fileLarge)) {
			return // the append has not reached its last file, or is complete
		}
		for _, beforeRecovery := range []bool{false, true} {
			mem := cut.KillClone()
			if beforeRecovery && fileForeignAppend(t, mem, key, added) != int64(len(old+added)) {
				continue
			}
			enabled := true
			f := fileOpen(t, vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
				if !enabled || !op.Changes() {
					return nil
				}
				killed := mem.KillClone()
				want := old + added
				if !beforeRecovery {
					// Wait until the append to c, the last file, is undone.
					info, err := killed.Info(fileMemDir + "/c")
					if err != nil || info.Size > int64(len(fileLarge)) {
						return err
					}
					file := must.Get(killed.OpenFile(fileMemDir+"/"+key, os.O_RDWR|os.O_CREATE, 0o666))(t)
					must.Do(t, file.Close())
					if fileForeignAppend(t, killed, key, added) != int64(len(old)) {
						return nil
					}
				}
				g := fileOpen(t, killed, fileMemDir, nil, fileNoKeptLock)
				got, err := g.Get(t.Context(), key)
				if err != nil || string(got[0]) != want {
					t.Fatalf("killed before call %d and during recovery: Get(%q) = %q, %v, want %q", n, key, got, err, want)
				}
				g.Close()
				return nil
			}), fileMemDir, nil, fileNoKeptLock)
			enabled = false
			f.Close()
		}
	})
}
