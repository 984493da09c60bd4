package stage

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/go-partd/partd/internal/vfs"
)

// temp makes an empty directory for what is being made under a key.
func (r *Results) temp(key string) (string, error) { return os.MkdirTemp(r.path(tmpDir), key+".") }

// sweep removes what was being made under a key. The caller has its lock, so that it is
// nobody's.
func (r *Results) sweep(key string) error {
	left, err := fs.Glob(os.DirFS(r.path(tmpDir)), key+".*")
	for _, name := range left {
		err = errors.Join(err, os.RemoveAll(r.path(tmpDir, name)))
	}
	return err
}

// folder is where the files of a result are, each time it is made in another place.
func (r *Results) folder(i *Info) string {
	return r.path(filesDir, i.Key+"-"+strconv.FormatInt(i.Made.UnixNano(), 10))
}

// place puts files in the place where they are read, as one step.
func (r *Results) place(i *Info, made string) error {
	if err := syncTree(made); err != nil {
		return err
	}
	if err := os.Rename(made, r.folder(i)); err != nil {
		return err
	}
	return vfs.OS{}.SyncDir(r.path(filesDir))
}

// unpack puts files in their place from an archive. It changes nothing where they are
// there.
func (r *Results) unpack(i *Info, archive []byte) error {
	if _, err := os.Stat(r.folder(i)); err == nil {
		return nil
	}
	made, err := r.temp(i.Key)
	if err != nil {
		return err
	}
	files, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err == nil {
		err = os.CopyFS(made, files)
	}
	if err != nil {
		return fmt.Errorf("unpack files: %w", err)
	}
	return r.place(i, made)
}

func pack(folder string) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	err := errors.Join(z.AddFS(os.DirFS(folder)), z.Close())
	return b.Bytes(), err
}

// syncTree makes files survive a loss of power.
func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return errors.Join(err, vfs.OS{}.SyncDir(path))
		}
		if !e.Type().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a directory, and cannot be kept", path)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
