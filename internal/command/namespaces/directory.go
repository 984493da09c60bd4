package namespaces

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/remote"
)

// List implements [remote.Namespaces].
func (s *Set) List(ctx context.Context, after string, limit int) ([]remote.NamespaceInfo, error) {
	files, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, f := range files {
		if name, ok := namespaceOf(f.Name()); ok && name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var infos []remote.NamespaceInfo
	for _, name := range names[:min(limit, len(names))] {
		if err := canceled.Err(ctx); err != nil {
			return nil, err
		}
		info := remote.NamespaceInfo{Name: name, DiskBytes: diskUsed(s.path(name))}
		if dir, err := os.Stat(s.path(name)); err == nil {
			info.LastUsed = dir.ModTime()
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// diskUsed returns the size of a store's files in bytes, excluding holes and preallocated space. It
// ignores files that disappear during the call.
func diskUsed(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // the function returns no errors
		if err != nil {
			return nil
		}
		if info, err := (vfs.OS{}).Info(path); err == nil && info.Mode.IsRegular() {
			bytes += min(info.Size, info.Disk)
		}
		return nil
	})
	return bytes
}

// sweep regularly removes namespaces that have been unused for longer than the TTL.
func (s *Set) sweep() {
	tick := time.NewTicker(min(max(s.opts.TTL/8, 10*time.Millisecond), time.Minute))
	defer tick.Stop()
	for {
		if canceled.Wait(s.life, tick.C) != nil {
			return
		}
		files, err := os.ReadDir(s.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.opts.Logger.Error("cannot list unused namespaces", "error", err)
		}
		for _, f := range files {
			if info, err := f.Info(); strings.HasPrefix(f.Name(), expiredPrefix) && err == nil && time.Since(info.ModTime()) > expiredTime {
				_ = os.Remove(filepath.Join(s.dir, f.Name())) // ignore the error: the next sweep tries again
			}
			name, ok := namespaceOf(f.Name())
			if ok && s.life.Err() == nil && s.isExpired(name) {
				s.removeExpired(name)
			}
		}
	}
}

// graceTime is how long a new server keeps all namespaces, so that clients can reconnect. If the TTL
// is shorter, the server keeps them for the TTL instead.
const graceTime = time.Hour

// expiredTime is how long the set remembers that a namespace expired.
const expiredTime = 30 * 24 * time.Hour

// expiredError returns an error if a namespace that does not exist has expired.
func (s *Set) expiredError(name string) error {
	info, err := os.Lstat(s.expiredPath(name))
	if err != nil {
		return nil
	}
	return fmt.Errorf("the namespace %s expired at %s, after %v without connections: write it again (%w)",
		name, info.ModTime().UTC().Format(time.RFC3339), s.opts.TTL, fs.ErrNotExist)
}

func (s *Set) isExpired(name string) bool {
	if time.Since(s.startedAt) <= min(s.opts.TTL, graceTime) {
		return false
	}
	info, err := os.Lstat(s.path(name))
	return err == nil && info.IsDir() && time.Since(info.ModTime()) > s.opts.TTL
}

// removeExpired removes a namespace unless it is in use. A client that connects during the removal
// waits and then finds no namespace.
func (s *Set) removeExpired(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(name)
	if e.store != nil && e.users == 0 && e.leases == 0 && e.changing == nil {
		s.close(context.Background(), e)
		e = s.entry(name)
	}
	if e.users > 0 {
		s.touch(e) // the last user also touches e when it leaves, but not if the process is killed first
	}
	if e.users > 0 || e.leases > 0 || e.store != nil || e.changing != nil || !s.isExpired(name) {
		s.forget(e)
		return
	}
	e.changing = make(chan struct{})
	s.mu.Unlock()
	// Rename the directory first, because a partly removed store looks damaged.
	removed := filepath.Join(s.dir, removedPrefix+fileName(name))
	err := os.WriteFile(s.expiredPath(name), nil, 0o666)
	if err == nil {
		err = os.Rename(s.path(name), removed)
	}
	if err == nil {
		err = os.RemoveAll(removed)
	}
	if err != nil {
		s.opts.Logger.Error("cannot remove an unused namespace", "namespace", name, "error", err)
	} else {
		s.opts.Logger.Info("unused namespace removed", "namespace", name, "ttl", s.opts.TTL)
	}
	s.mu.Lock()
	close(e.changing)
	e.changing = nil
	s.forget(e)
}
