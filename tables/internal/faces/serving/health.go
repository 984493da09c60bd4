package serving

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/go-partd/partd/storekit"
)

// The disk counts as full below a hundredth of its size, but at least minReserve and at most maxReserve bytes.
const (
	minReserve = 4 << 20
	maxReserve = 256 << 20
)

var errStopping = errors.New("the server is stopping")

// Ready returns an error if the server should get no new calls: it is stopping, its catalog is damaged, or its disk is full.
func (s *Core) Ready() error {
	if s.Deadline.Load() != 0 {
		return errStopping
	}
	if err := s.store.Damage(); err != nil {
		return errors.New(s.WithoutPaths(err.Error(), err))
	}
	free, size, err := s.store.DiskSpace()
	if reserve := min(max(size/100, minReserve), maxReserve); err == nil && free < reserve {
		return fmt.Errorf("%w: the disk of the tables has %d MiB free, and writes may need %d MiB: free space on the disk, or drop tables and expire versions",
			syscall.ENOSPC, free>>20, reserve>>20)
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("cannot measure the free space: %s", s.WithoutPaths(err.Error(), err))
	}
	return nil
}

// WithoutPaths returns text without the paths of the server's files, because clients must not learn them. text is the
// message of err, or a part of it.
func (s *Core) WithoutPaths(text string, err error) string {
	paths := storekit.ErrorPaths(err)
	if e := (*exec.Error)(nil); errors.As(err, &e) {
		paths = append(paths, e.Name)
		// longest first, as ErrorPaths returns them
		slices.SortStableFunc(paths, func(a, b string) int { return len(b) - len(a) })
	}
	for _, path := range paths {
		if strings.ContainsAny(path, `/\`) {
			text = strings.ReplaceAll(text, path, "a file of the server")
		}
	}
	return s.store.WithoutDir(text, s.opts.BackupDir)
}
