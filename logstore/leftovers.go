package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/segment"
)

func (d *directory) isUnusedWAL(path string) (bool, error) {
	info, err := d.fs.Info(path)
	if err != nil || info.Size > walStep {
		return false, err
	}
	b, err := d.readAll(path, walStep)
	if err != nil {
		return false, err
	}
	return len(b) <= walHeaderLen || len(bytes.Trim(b[walHeaderLen:], "\x00")) == 0, nil
}

// listStoreFiles lists the directory's files that are named like data files or write-ahead files.
func (d *directory) listStoreFiles() ([]string, error) {
	list, err := d.fs.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for err == nil {
		entries, e := list.Next(256)
		for _, entry := range entries {
			name := entry.Name()
			var n uint32
			if parseName(name, "seg-", &n) || parseName(name, "blob-", &n) ||
				name == "wal-0" || name == "wal-1" || name == "wal-2" {
				names = append(names, name)
			}
		}
		err = e
	}
	if isEOF(err) {
		err = nil
	}
	return names, errors.Join(err, list.Close())
}

func parseName(name, prefix string, n *uint32) bool {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok || len(digits) < 8 {
		return false
	}
	_, err := fmt.Sscanf(digits, "%d", n)
	return err == nil && name == fmt.Sprintf("%s%08d", prefix, *n)
}

// isOwnFile reports whether a data file belongs to this store. A file with an empty, zero-filled or
// truncated header counts as the store's, because a crash can leave such files.
func (c *catalog) isOwnFile(path string) (bool, error) {
	info, err := c.fs.Info(path)
	if err != nil || !info.Mode.IsRegular() {
		return false, err
	}
	b, err := c.readStart(path, segment.HeaderLen)
	if err != nil {
		return false, err
	}
	if len(bytes.Trim(b, "\x00")) == 0 {
		return info.Size <= segment.HeaderLen, nil
	}
	return c.format.OwnsHeader(b), nil
}

// removeLeftovers removes data files that the manifest does not name. A crash during a Drop, or
// after the creation of a file, leaves such files.
func (c *catalog) removeLeftovers() error {
	names, err := c.listStoreFiles()
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(c.dir, name)
		if strings.HasPrefix(name, "wal-") || slices.ContainsFunc(c.manifest.files, func(r fileRef) bool { return dataName(c.dir, r.kind, r.number) == path }) {
			continue
		}
		isOwn, err := c.isOwnFile(path)
		if err != nil {
			return err
		}
		if !isOwn {
			c.log.Warn("logstore: ignoring a file that belongs to another store", "path", path)
			continue
		}
		c.log.Info("logstore: removing a leftover file of an interrupted operation", "path", path)
		if err := c.fs.Remove(path); err != nil {
			return err
		}
	}
	for _, name := range []string{manifestTmpName, blobTmpName} {
		if err := c.fs.Remove(filepath.Join(c.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
