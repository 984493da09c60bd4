package filedir_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

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
	const added = "twenty-six bytes to append"
	fileCutAt(t, fileFilled(t, nil), nil, func(ctx context.Context, f *storetest.Dir) error {
		return f.Append(ctx, fileEntries("a", added, "c", added)...)
	}, func(cut *vfstest.Mem, n int) {
		info := must.Get(cut.Info(fileMemDir + "/c"))(t)
		recovered := fileOpen(t, cut.KillClone(), fileMemDir, nil, fileNoKeptLock)
		if v, err := recovered.Get(t.Context(), "a"); err != nil || string(v[0]) != "1" || info.Size == int64(len(fileLarge)) {
			return // the append has not reached its last file, or is complete
		}
		for _, beforeRecovery := range []bool{false, true} {
			mem := cut.KillClone()
			if beforeRecovery && fileForeignAppend(t, mem, "a", added) != int64(1+len(added)) {
				continue
			}
			enabled := true
			f := fileOpen(t, vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
				if !enabled || !op.Changes() {
					return nil
				}
				killed := mem.KillClone()
				want := "1" + added
				if !beforeRecovery {
					// Wait until the append to c, the last file, is undone.
					info, err := killed.Info(fileMemDir + "/c")
					if err != nil || info.Size > int64(len(fileLarge)) || fileForeignAppend(t, killed, "a", added) != 1 {
						return err
					}
				}
				g := fileOpen(t, killed, fileMemDir, nil, fileNoKeptLock)
				got, err := g.Get(t.Context(), "a")
				if err != nil || string(got[0]) != want {
					t.Fatalf("killed before call %d and during recovery: Get = %q, %v, want %q", n, got, err, want)
				}
				g.Close()
				return nil
			}), fileMemDir, nil, fileNoKeptLock)
			enabled = false
			f.Close()
		}
	})
}
