package namespaces

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/vfs"
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
		if name, ok := nameOf(f.Name()); ok && name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var infos []remote.NamespaceInfo
	for _, name := range names[:min(limit, len(names))] {
		if err := canceled.Err(ctx); err != nil {
			return nil, err
		}
		info := remote.NamespaceInfo{Name: name, Disk: diskOf(s.path(name))}
		if i, err := os.Stat(s.path(name)); err == nil {
			info.Used = i.ModTime()
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// diskOf adds up what the files of a store take, some of which may go meanwhile. Of one
// in whose middle dead data was given back that is less than its length; of one that was
// made longer ahead it is not what it may come to take.
func diskOf(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
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

// sweep removes, now and then, the namespaces that nobody has used for the TTL.
func (s *Set) sweep() {
	tick := time.NewTicker(min(max(s.opts.TTL/8, 10*time.Millisecond), time.Minute))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.stop:
			return
		}
		files, err := os.ReadDir(s.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.opts.Logger.Error("looking for unused namespaces", "error", err)
		}
		for _, f := range files {
			name, ok := nameOf(f.Name())
			if ok && s.isOld(name) {
				s.removeOld(name)
			}
			select {
			case <-s.stop:
				return
			default:
			}
		}
	}
}

// comeBack is how long clients have at the least, once there is a server again.
const comeBack = time.Hour

func (s *Set) isOld(name string) bool {
	if time.Since(s.begun) <= min(s.opts.TTL, comeBack) {
		return false
	}
	info, err := os.Lstat(s.path(name))
	return err == nil && info.IsDir() && time.Since(info.ModTime()) > s.opts.TTL
}

// removeOld removes a namespace unless somebody uses it. Who comes meanwhile waits,
// and finds it empty.
func (s *Set) removeOld(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(name)
	if e.store != nil && e.users == 0 && e.leases == 0 && e.changing == nil {
		s.close(context.Background(), e)
		e = s.entry(name)
	}
	if e.users > 0 {
		s.touch(e) // for the case that the process is killed
	}
	if e.users > 0 || e.leases > 0 || e.store != nil || e.changing != nil || !s.isOld(name) {
		s.forget(e)
		return
	}
	e.changing = make(chan struct{})
	s.mu.Unlock()
	// First out of the way as a whole: half a store would be a damaged one.
	gone := filepath.Join(s.dir, removedPrefix+fileName(name))
	err := os.Rename(s.path(name), gone)
	if err == nil {
		err = os.RemoveAll(gone)
	}
	if err != nil {
		s.opts.Logger.Error("removing an unused namespace", "namespace", name, "error", err)
	} else {
		s.opts.Logger.Info("unused namespace removed", "namespace", name, "ttl", s.opts.TTL)
	}
	s.mu.Lock()
	close(e.changing)
	e.changing = nil
	s.forget(e)
}
