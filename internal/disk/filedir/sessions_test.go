package filedir_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/sessiontab"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestFileSessionsOfAnotherBoot checks that sessions used without Sync expire when the system restarts.
func TestFileSessionsOfAnotherBoot(t *testing.T) {
	ctx := t.Context()
	mem := vfstest.NewMem()
	open := func(sync bool, boot uint64) *storetest.Dir {
		return fileOpen(t, mem, fileMemDir, &partd.FileOptions{Sync: sync}, filedir.Hooks{KeepLock: -1, Boot: boot})
	}
	apply := func(f *storetest.Dir, session, number uint64) error {
		_, err := f.Apply(ctx, partd.Tag{Session: session, Number: number, CRC: 0}, partd.Operation{})
		return err
	}
	newSession := func(f *storetest.Dir) uint64 {
		s := must.Get(f.NewSession(ctx))(t)
		return s
	}
	unsynced, synced := newSession(open(false, 5)), newSession(open(true, 5))
	for _, s := range []uint64{unsynced, synced} {
		must.Do(t, apply(open(false, 5), s, 1))
	}
	afterRestart := open(true, 6)
	fileWantErr(t, apply(afterRestart, unsynced, 2), partd.ErrSessionExpired)
	fileWantErr(t, apply(afterRestart, synced, 2), partd.ErrSessionExpired) // its last operation was not synced
	second := newSession(afterRestart)
	if second == unsynced || second == synced || apply(afterRestart, second, 1) != nil || apply(open(true, 7), second, 2) != nil {
		t.Fatalf("session %d, issued after %d and %d, is not new or cannot be used after a restart", second, unsynced, synced)
	}
	// After a store without Sync has used the session, a power failure must not bring back its earlier, synced state.
	must.Do(t, apply(open(false, 7), second, 3))
	for seed := range uint64(50) {
		f := must.Get(storetest.OpenDir(mem.Crash(rand.New(rand.NewPCG(seed, 0))), fileMemDir, nil, filedir.Hooks{KeepLock: -1, Boot: 8}))(t)
		fileWantErr(t, apply(f, second, 3), partd.ErrSessionExpired)
		f.Close()
	}
}

// TestFileSessionsAreBounded checks that ended sessions are forgotten first, and then the oldest.
func TestFileSessionsAreBounded(t *testing.T) {
	ctx := t.Context()
	f := fileOpen(t, vfstest.NewMem(), fileMemDir, nil, filedir.Hooks{KeepLock: -1, Sessions: 4})
	isKnown := func(s uint64) bool {
		t.Helper()
		_, err := f.Apply(ctx, partd.Tag{Session: s, Number: 1, CRC: 0}, partd.Operation{})
		if err != nil && !errors.Is(err, partd.ErrSessionExpired) {
			t.Fatalf("Apply in session %d: error %v, want nil or ErrSessionExpired", s, err)
		}
		return err == nil
	}
	issue := func() uint64 {
		t.Helper()
		s := must.Get(f.NewSession(ctx))(t)
		return s
	}
	endSession := func(s uint64) error {
		return f.Write(ctx, func(tx filedir.Tx) error { return tx.EndSession(s) })
	}
	first := issue()
	for range 50 { // issue and end short sessions while the first stays in use
		s := issue()
		if !isKnown(s) || !isKnown(first) {
			t.Fatalf("sessions %d and %d are known: %v and %v, want true and true", s, first, isKnown(s), isKnown(first))
		}
		must.Do(t, endSession(s))
		if isKnown(s) {
			t.Fatalf("session %d is still known after EndSession", s)
		}
	}
	issued := map[uint64]bool{first: true}
	all := []uint64{first}
	for range 20 {
		s := issue()
		if issued[s] {
			t.Fatalf("session %d was issued twice", s)
		}
		issued[s] = true
		all = append(all, s)
		for i, s := range all {
			if isKnown(s) != (i >= len(all)-4) {
				t.Fatalf("sessions %v: the session at index %d is known: %v, want only the last 4 known", all, i, isKnown(s))
			}
		}
	}
	if err := endSession(12345); err != nil {
		t.Errorf("ending an unknown session: %v", err)
	}
}

// TestFileSessionsOfManyProcesses checks that stores in one directory issue different sessions, and share each session.
func TestFileSessionsOfManyProcesses(t *testing.T) {
	dir := t.TempDir()
	ctx := t.Context()
	var mu sync.Mutex
	issued := map[uint64]bool{}
	var wg sync.WaitGroup
	stores := make([]*storetest.Dir, 4)
	for i := range stores {
		stores[i] = fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
		wg.Go(func() {
			for range 30 {
				s, err := stores[i].NewSession(ctx)
				mu.Lock()
				if err != nil || issued[s] {
					t.Errorf("NewSession = %d, %v; issued before: %v, want a new session", s, err, issued[s])
				}
				issued[s] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	session := must.Get(stores[0].NewSession(ctx))(t)
	want := ""
	for n := range uint64(20) {
		for _, f := range stores {
			wg.Go(func() {
				op := partd.Operation{Entries: fileEntries("k", fmt.Sprint(n, " "))}
				if _, err := f.Apply(ctx, partd.Tag{Session: session, Number: n + 1, CRC: uint32(n)}, op); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		want += fmt.Sprint(n, " ")
	}
	fileWantContent(t, stores[3], map[string]string{"k": want})
}

// TestFileSessionsDamaged checks that a damaged session file, or one of another program, makes all sessions expire and
// has no other effect.
func TestFileSessionsDamaged(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, fileNoKeptLock)
	path := filepath.Join(dir, names.Sessions)
	for _, damage := range []func([]byte) []byte{
		func(b []byte) []byte { return nil },
		func(b []byte) []byte { return b[:len(b)-20] },
		func(b []byte) []byte { b[len(b)-slotLen+8] ^= 1; return b },
		func(b []byte) []byte { clear(b); return b },
		func(b []byte) []byte {
			return []byte("something else entirely, and longer than the head of the file is")
		},
	} {
		s, err := f.NewSession(ctx)
		must.Do(t, err)
		all := fileRead(t, path)
		slot := 1 + s&(1<<32-1)%sessiontab.MaxSessions
		last := all[:slot*slotLen+slotLen]
		fileWrite(t, path, damage(last))
		_, err = f.Apply(ctx, partd.Tag{Session: s, Number: 1, CRC: 0}, partd.Operation{Entries: fileEntries("k", "v")})
		fileWantErr(t, err, partd.ErrSessionExpired)
		if second, err := f.NewSession(ctx); err != nil || second == s {
			t.Fatalf("NewSession = %d after the damaged session %d, error %v, want a new session", second, s, err)
		}
	}
	must.Do(t, os.Remove(path))
	must.Do(t, os.Symlink("/nonexistent/elsewhere", path))
	if _, err := f.NewSession(ctx); err == nil {
		t.Fatal("NewSession followed a symbolic link")
	}
	fileWantContent(t, f, map[string]string{})
}
