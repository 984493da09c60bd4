package serving

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/go-partd/partd/internal/disk/space"
	"github.com/go-partd/partd/storekit"
)

// The disk counts as full if less than a reserve is free: a hundredth of the disk's size, but at least minReserve and
// at most maxReserve bytes.
const (
	minReserve = 4 << 20
	maxReserve = 256 << 20
)

var errStopping = errors.New("the server is stopping")

// Ready returns an error if the server should get no new calls, because it is stopping, its catalog is damaged, its tail
// refuses writes, or the disk with the tables or the temporary files cannot be written.
func (s *Core) Ready() error {
	if s.Deadline.Load() != 0 {
		return errStopping
	}
	if err := s.store.Damage(); err != nil {
		return errors.New(s.WithoutPaths(err.Error(), err))
	}
	free, size, err := s.store.DiskSpace()
	if err := s.checkDisk("the tables", "free space on the disk, or drop tables and expire versions", free, size, err); err != nil {
		return err
	}
	free, size, err = space.Disk(os.TempDir())
	return s.checkDisk("temporary files", "free space on the disk, or set TMPDIR to a directory on another disk", free, size, err)
}

func (s *Core) checkDisk(content, advice string, free, size int64, err error) error {
	if reserve := min(max(size/100, minReserve), maxReserve); err == nil && free < reserve {
		return fmt.Errorf("%w: the disk of %s has %d MiB free, but writes may need %d MiB: %s", syscall.ENOSPC, content, free>>20, reserve>>20, advice)
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("the disk of %s: %s", content, s.WithoutPaths(err.Error(), err))
	}
	return nil
}

// WithoutPaths returns text without the paths of the server's files, because clients must not learn them. text is err's
// message, or a part of it.
func (s *Core) WithoutPaths(text string, err error) string {
	paths := storekit.ErrorPaths(err)
	if e := (*exec.Error)(nil); errors.As(err, &e) {
		paths = append(paths, e.Name)
		// longest first, so that no path is replaced inside a longer one
		slices.SortStableFunc(paths, func(a, b string) int { return len(b) - len(a) })
	}
	for _, path := range paths {
		if strings.ContainsAny(path, `/\`) {
			text = strings.ReplaceAll(text, path, "a file of the server")
		}
	}
	return s.store.WithoutDir(text, s.opts.BackupDir)
}
