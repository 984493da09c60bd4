package namespaces

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/shuffle"
)

// TestTTL checks that a set removes unused namespaces and keeps used ones, and New finishes an interrupted removal.
func TestTTL(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	must.Do(t, os.MkdirAll(filepath.Join(dir, removedPrefix+"half", "x"), 0o700))
	s := open(t, dir, 2, 100*time.Millisecond, nil)
	if _, err := os.Stat(filepath.Join(dir, removedPrefix+"half")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half-removed namespace still exists: %v", err)
	}
	used, usedDone := s.Acquire("used")
	defer usedDone()
	unused, unusedDone := s.Acquire("unused")
	for _, store := range []partd.Partd{used, unused} {
		must.Do(t, store.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}))
	}
	unusedDone()
	must.Eventually(t, time.Minute, "no namespace has expired", func() bool { return len(must.Get(s.List(ctx, "", 10))(t)) < 2 })
	time.Sleep(300 * time.Millisecond) // three times the TTL, in which the other namespace must not expire
	if list := must.Get(s.List(ctx, "", 10))(t); len(list) != 1 || list[0].Name != "used" {
		t.Fatalf("the namespaces are %v, want only \"used\"", list)
	}
	unused, unusedDone = s.Acquire("unused")
	defer unusedDone()
	if exists, err := partd.Has(ctx, unused, "k"); exists || err != nil {
		t.Errorf("Has in an expired namespace = %t, %v, want false, nil", exists, err)
	}
	// A reader must not take the namespace for an empty one, before and after a restart.
	again := must.Get(New(dir, s.opts))(t)
	t.Cleanup(func() { must.Do(t, again.Close(ctx)) })
	restarted, done := again.Acquire("unused")
	defer done()
	never, done := s.Acquire("never")
	defer done()
	for _, err := range partd.Keys(ctx, never) {
		t.Errorf("listing a namespace that never existed: %v", err)
	}
	for _, store := range []partd.Partd{unused, restarted} {
		_, committedErr := shuffle.ReadCommitted(ctx, store)
		_, checkErr := partd.Check(ctx, store)
		_, getErr := store.Get(ctx, "k")
		_, popErr := partd.Pop(ctx, store, "k")
		_, openErr := partd.Open(ctx, store, "k")
		var keysErr, scanErr error
		for _, keysErr = range partd.Keys(ctx, store) {
		}
		for _, scanErr = range partd.ScanPart(ctx, store, 1, 2) {
		}
		for _, err := range []error{committedErr, checkErr, getErr, popErr, openErr, keysErr, scanErr} {
			if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "the namespace unused expired") {
				t.Errorf("reading an expired namespace: error %v, want its name", err)
			}
		}
	}
	must.Do(t, unused.Append(ctx, partd.Entry{Key: "new", Value: []byte("v")}))
	for k, err := range partd.Keys(ctx, unused) {
		if must.Do(t, err); k.Key != "new" {
			t.Errorf("after an append, the namespace has the key %q, want only new", k.Key)
		}
	}
	old := time.Now().Add(-2 * expiredTime)
	must.Do(t, os.WriteFile(s.expiredPath("old"), nil, 0o600))
	must.Do(t, os.Chtimes(s.expiredPath("old"), old, old))
	must.Eventually(t, 20*time.Second, "the record of an expired namespace is still there", func() bool {
		return s.expiredError("old") == nil
	})
}

// TestTTLStartsAtRelease checks that the TTL counts from the time when a namespace's last client
// leaves, even if that client was idle for longer, and counts again from the start of a new set.
func TestTTLStartsAtRelease(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	const ttl = time.Hour
	makeOld := func(name string) {
		longAgo := time.Now().Add(-10 * ttl)
		must.Do(t, os.Chtimes(filepath.Join(dir, name), longAgo, longAgo))
	}
	s := must.Get(New(dir, open(t, t.TempDir(), 1, ttl, nil).opts))(t)
	store, release := s.Acquire("quiet")
	must.Do(t, store.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}))
	makeOld("quiet")
	release()
	s.startedAt = time.Now().Add(-10 * ttl)
	if s.isExpired("quiet") {
		t.Error("the namespace has expired when its last client leaves")
	}
	must.Do(t, s.Close(ctx))
	makeOld("quiet")
	if open(t, dir, 1, ttl, nil).isExpired("quiet") {
		t.Error("the namespace has expired when a new set starts")
	}
}

// TestIdleReaders checks that if only idle readers keep a store open, the store is closed when
// another namespace needs to open its own.
func TestIdleReaders(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	set := must.Get(New(t.TempDir(), open(t, t.TempDir(), 2, 0, nil).opts))(t)
	server := must.Get(remote.NewServer(partd.NewDict(), &remote.ServerOptions{Namespaces: set}))(t)
	l := must.Get(remote.Listen("tcp://127.0.0.1:0"))(t)
	go server.Serve(ctx, l)
	t.Cleanup(func() { must.Do(t, server.Shutdown(ctx)) })
	for _, name := range []string{"a", "b", "c"} {
		c := must.Get(remote.Dial(ctx, remote.URL(l.Addr())+"/"+name, nil))(t)
		t.Cleanup(func() { must.Do(t, c.Close()) })
		begin := time.Now()
		must.Do(t, c.Append(ctx, partd.Entry{Key: "k", Value: make([]byte, 32<<20)}))
		if d := time.Since(begin); d > maxWait/2 {
			t.Errorf("an append to the namespace %s waited for %v", name, d)
		}
		r := must.Get(c.Open(ctx, "k"))(t)
		t.Cleanup(func() { _ = r.Close() })
		must.Get(r.Read(make([]byte, 1)))(t)
	}
}
